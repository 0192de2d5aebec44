package s3store

import (
	"net"
	"net/http"
	"time"
)

// newTransport is the one pool of connections of a Bucket. Neither SDK sets a
// bound on reading by itself, nor on waiting for a header.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: (&dialer{net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}}).dial,
		// 16 ranges for a blob, 32 for a host, writes beside them: with the default
		// of 2 idle connections a host almost each would be a new handshake.
		MaxIdleConnsPerHost: 256,
		// Below the minute or so after which stores and balancers hang up.
		IdleConnTimeout:       30 * time.Second,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: 15 * time.Second,
		ExpectContinueTimeout: time.Second,
		// Bodies are blobs, compressed already; and an Accept-Encoding of net/http's
		// own would hide the Content-Length.
		DisableCompression: true,
		// With the default of 4 KiB a body read in small pieces costs a system call
		// for each 4 KiB, and one sent costs as many.
		ReadBufferSize:  64 << 10,
		WriteBufferSize: 64 << 10,
	}
}

// An idler keeps connections that nobody uses at the moment.
type idler interface {
	// closeIdle closes them. The idler can be used again.
	closeIdle()
}

// closeIdle closes what connections the bucket keeps, if it is of a kind that does.
func closeIdle(b Bucket) {
	if i, ok := b.(idler); ok {
		i.closeIdle()
	}
}

func (c *client) closeIdle() { c.wire.base.CloseIdleConnections() }

func (p prefixed) closeIdle() { closeIdle(p.b) }
