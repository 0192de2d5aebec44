// Package bucket is a proxy before an S3 server (MinIO, versitygw, S3 itself) that
// counts what the store is asked and shapes the line to it: rates, latency, and
// faults at known times.
//
//	p, err := bucket.Start("http://127.0.0.1:9000", bucket.Options{Latency: 20 * time.Millisecond})
//	defer p.Close()
//	... registries with p.URL as their store's endpoint ...
//	p.Counts().Requests["get"]
//
// It passes on what a signature covers as it came, Host included: the store must not
// insist on a name of its own (MinIO and versitygw do not). The bucket has to stand
// in the path, as it does for whoever was given an endpoint. Bodies stream in both
// directions and are never held.
//
//	client ─> Server ─> count ─> Line ─> ReverseProxy ─> store
package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"hostlocal/loadtest/line"
)

// Options are how a proxy is in good times. The zero value is as fast as the machine.
type Options struct {
	Listen         string        // host:port; "" is a free port of loopback
	Latency        time.Duration // from each request to its first byte, beside the store's own
	ConnectionRate int64         // bytes a second on one connection, each way; 0 is unlimited
	TotalRate      int64         // bytes a second in all, each way; 0 is unlimited
}

// A Proxy stands before one S3 server. Start starts it and Close ends it.
type Proxy struct {
	URL  string // http://host:port, no slash at the end
	Host string // host:port

	server    *line.Server
	transport *http.Transport
	forward   *httputil.ReverseProxy
	down, up  line.Line // to the client, from the client
	running   sync.WaitGroup
	ctx       context.Context // ends with the proxy
	cancel    context.CancelFunc
	log       counters
}

// Start starts a proxy before the server at backend, http://host:port.
func Start(backend string, o Options) (*Proxy, error) {
	to, err := url.Parse(backend)
	if err != nil || to.Host == "" || to.Scheme != "http" && to.Scheme != "https" || to.Path != "" && to.Path != "/" {
		return nil, fmt.Errorf("a proxy before the bucket needs http://host:port, not %q", backend)
	}
	p := &Proxy{transport: newTransport()}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.log.init()
	p.forward = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host
			r.Out.URL.RawQuery = r.In.URL.RawQuery // signed as it is, whatever it is
			r.Out.Host = r.In.Host
		},
		Transport:    p.transport,
		BufferPool:   pool{},
		ErrorLog:     log.New(io.Discard, "", 0), // clients that leave are what load tests are about
		ErrorHandler: noAnswer,
	}
	p.SetShape(o)
	p.server, err = line.Listen(line.Options{Listen: o.Listen, Handler: p, Counts: &p.log.socket})
	if err != nil {
		p.cancel()
		return nil, fmt.Errorf("starting the proxy before the bucket: %w", err)
	}
	p.URL, p.Host = p.server.URL, p.server.Host
	return p, nil
}

// newTransport speaks HTTP/1.1, keeps every connection that may be of use, and adds
// nothing that was not signed.
func newTransport() *http.Transport {
	return &http.Transport{
		DisableCompression:    true,
		MaxIdleConnsPerHost:   1000,
		IdleConnTimeout:       30 * time.Second,
		ExpectContinueTimeout: time.Second,
		ReadBufferSize:        64 << 10,
		WriteBufferSize:       64 << 10,
	}
}

// SetShape changes latency and rates from now on; o.Listen does not matter.
func (p *Proxy) SetShape(o Options) {
	shape := line.Shape{Latency: o.Latency, ConnectionRate: o.ConnectionRate, TotalRate: o.TotalRate}
	p.down.Set(shape)
	p.up.Set(shape)
}

// Play lets faults happen, counted from now; a cut breaks what clients read. Stop is
// to be called once: it ends those that are at work and returns what went wrong with
// them.
func (p *Proxy) Play(faults []line.Fault) (stop func() error, err error) {
	down, err := p.down.Play(faults, p.server)
	if err != nil {
		return nil, err
	}
	up, err := p.up.Play(faults, nil)
	if err != nil {
		return nil, errors.Join(err, down())
	}
	return func() error { return errors.Join(down(), up()) }, nil
}

// Close ends the proxy and its connections, and waits for what was under way.
func (p *Proxy) Close() error {
	p.cancel()
	err := p.server.Close()
	p.running.Wait()
	p.transport.CloseIdleConnections()
	return err
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.running.Add(1)
	defer p.running.Done()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	r = r.WithContext(ctx)
	p.log.request(operation(r))

	order, err := p.down.Arrive(ctx)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if order.Status != 0 {
		p.log.refuse(order.Status)
		refuse(w, r, order.Status)
		return
	}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &upload{ReadCloser: r.Body, p: p, ctx: ctx, conn: line.ConnOf(r)}
	}
	p.forward.ServeHTTP(&download{ResponseWriter: w, p: p, ctx: ctx, conn: line.ConnOf(r), cut: order.Cut}, r)
}
