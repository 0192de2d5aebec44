package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"hostlocal/loadtest/line"
)

// An upload counts and shapes the body of a request.
type upload struct {
	io.ReadCloser
	p    *Proxy
	ctx  context.Context
	conn *line.Conn
}

func (u *upload) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	k, _, err := u.p.up.Pass(u.ctx, u.conn, int64(len(b)))
	if err != nil {
		return 0, err
	}
	n, err := u.ReadCloser.Read(b[:k])
	u.p.log.received.Add(int64(n))
	return n, err
}

// A download counts, shapes and cuts the body of an answer.
type download struct {
	http.ResponseWriter
	p    *Proxy
	ctx  context.Context
	conn *line.Conn
	cut  int64 // bytes that are left to write; negative: all
}

var errCut = errors.New("cut, as the scenario says")

// Unwrap lets http.ResponseController through.
func (d *download) Unwrap() http.ResponseWriter { return d.ResponseWriter }

func (d *download) Write(b []byte) (written int, err error) {
	for len(b) > 0 {
		if d.cut == 0 {
			d.flush()
			return written, errCut // the ReverseProxy breaks the connection
		}
		k := int64(len(b))
		if d.cut > 0 {
			k = min(k, d.cut)
		}
		k, paced, err := d.p.down.Pass(d.ctx, d.conn, k)
		if err != nil {
			return written, err
		}
		n, err := d.ResponseWriter.Write(b[:k])
		d.p.log.sent.Add(int64(n))
		written += n
		if d.cut > 0 {
			d.cut -= int64(n)
		}
		if err != nil {
			return written, err
		}
		if paced {
			d.flush()
		}
		b = b[n:]
	}
	return written, nil
}

func (d *download) flush() { http.NewResponseController(d.ResponseWriter).Flush() }

// pool lends the buffers of the ReverseProxy: 64 KiB, twice its own, halve the
// system calls of a large blob.
type pool struct{}

const bufferSize = 64 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// Get implements httputil.BufferPool.
func (pool) Get() []byte { return buffers.Get().(*[bufferSize]byte)[:] }

// Put implements httputil.BufferPool.
func (pool) Put(b []byte) { buffers.Put((*[bufferSize]byte)(b)) }

// refuse answers as S3 does when it has had enough, or with whatever status the
// scenario says.
func refuse(w http.ResponseWriter, r *http.Request, status int) {
	code := "InternalError"
	switch status {
	case http.StatusServiceUnavailable:
		code = "SlowDown"
	case http.StatusTooManyRequests:
		code = "TooManyRequests"
	case http.StatusForbidden:
		code = "AccessDenied"
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n<Error><Code>%s</Code><Message>%s</Message></Error>", code, http.StatusText(status))
	}
}

// noAnswer is told when the store did not answer. A client that is still there sees
// its connection break, as it would without the proxy.
func noAnswer(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
