package registryd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
)

// A watchedListener's connections see what net/http hands them.
type watchedListener struct {
	net.Listener
	others atomic.Int64 // bytes that came otherwise than by sendfile
}

func (l *watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &watchedConn{c.(*net.TCPConn), l}, nil
}

type watchedConn struct {
	*net.TCPConn
	l *watchedListener
}

func (c *watchedConn) ReadFrom(src io.Reader) (int64, error) {
	n, err := c.TCPConn.ReadFrom(src)
	c.l.others.Add(n)
	return n, err
}

func (c *watchedConn) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	c.l.others.Add(int64(n))
	return n, err
}

// landedHold sends a file as a fill does: io.CopyN of its spans, flushing between.
type landedHold struct {
	f    *os.File
	size int64
}

func (h *landedHold) Bytes() []byte  { return nil }
func (h *landedHold) File() *os.File { return nil }
func (h *landedHold) Size() int64    { return h.size }
func (h *landedHold) Source() string { return SourceFill }
func (h *landedHold) Close() error   { return h.f.Close() }
func (h *landedHold) CopyRange(_ context.Context, w io.Writer, off, n int64) error {
	if _, err := h.f.Seek(off, io.SeekStart); err != nil {
		return err
	}
	for n > 0 {
		m, err := io.CopyN(w, h.f, min(n, 700_000))
		if n -= m; err != nil {
			return err
		}
		w.(http.Flusher).Flush()
	}
	return nil
}

// TestFilesLeaveBySendfile: through every wrapper, for complete blobs and for fills,
// whole and in ranges, all bytes must leave by sendfile, past the connection's
// methods, and the header just before the first of them.
func TestFilesLeaveBySendfile(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	body := pattern(5<<20 + 321)
	file, path := h.file(body)
	fill := someDigest
	h.setBlob(fill, func(int64) (hold, error) {
		f, err := os.Open(path)
		return &landedHold{f, int64(len(body))}, err
	})
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &watchedListener{Listener: inner}
	served := make(chan error)
	go func() { served <- h.server.Serve(l) }()
	defer func() {
		l.Close()
		<-served
	}()
	for _, path := range []string{blobPath(file), blobPath(fill)} {
		for _, from := range []int{0, 1 << 20} {
			l.others.Store(0)
			req, _ := http.NewRequest("GET", "http://"+inner.Addr().String()+path, nil)
			if from > 0 {
				req.Header.Set("Range", "bytes=1048576-")
			}
			req.Close = true
			res, err := h.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || !bytes.Equal(got, body[from:]) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			h.settled(0, 0) // the client has its bytes a moment before they are counted
			if l.others.Load() > 0 {
				t.Errorf("%s from %d: %d bytes came otherwise than as a file", path, from, l.others.Load())
			}
		}
	}
}

// A plainWriter is a ResponseWriter without anything else.
type plainWriter struct {
	header    http.Header
	body      bytes.Buffer
	deadlines int
}

func (w *plainWriter) Header() http.Header              { return w.header }
func (w *plainWriter) Write(p []byte) (int, error)      { return w.body.Write(p) }
func (w *plainWriter) WriteHeader(int)                  {}
func (w *plainWriter) SetWriteDeadline(time.Time) error { w.deadlines++; return nil }

func TestEachStepRenewsTheDeadline(t *testing.T) {
	under := &plainWriter{header: http.Header{}}
	var w response
	w.reset(under, time.Minute, time.Now())
	body := pattern(3*writeStep + 5)
	n, err := io.Copy(&w, io.LimitReader(bytes.NewReader(body), 1<<40))
	if err != nil || n != int64(len(body)) || !bytes.Equal(under.body.Bytes(), body) || w.sent != n || w.status != 200 {
		t.Fatalf("%d bytes, %v, status %d", n, err, w.status)
	}
	if under.deadlines != 4 {
		t.Errorf("%d deadlines for 4 steps", under.deadlines)
	}
	w = response{}
	w.reset(under, time.Minute, time.Now())
	under.deadlines = 0
	under.body.Reset()
	if n, err := w.Write(body); err != nil || n != len(body) || !bytes.Equal(under.body.Bytes(), body) || under.deadlines != 3 {
		t.Errorf("written at once: %d bytes, %v, %d deadlines", n, err, under.deadlines)
	}
	under.body.Reset()
	lr := &io.LimitedReader{R: bytes.NewReader(body), N: 2*writeStep + 1}
	if n, err := w.ReadFrom(lr); err != nil || n != 2*writeStep+1 || lr.N != 0 || !bytes.Equal(under.body.Bytes(), body[:n]) {
		t.Errorf("%d bytes, %v, %d left", n, err, lr.N)
	}
}

// What could not be read is told apart from what could not be written: only the former
// is the file's fault.
func TestUnreadableSourceIsNoticed(t *testing.T) {
	for err, unread := range map[error]bool{
		&os.PathError{Op: "read", Err: syscall.EIO}:                                 true,
		&net.OpError{Op: "write", Err: os.NewSyscallError("sendfile", syscall.EIO)}: true,
		&net.OpError{Op: "write", Err: syscall.EPIPE}:                               false,
		io.ErrUnexpectedEOF: false,
	} {
		var w response
		w.reset(&plainWriter{header: http.Header{}}, time.Minute, time.Now())
		if _, got := w.ReadFrom(iotest.ErrReader(err)); !errors.Is(got, err) || (w.unread != nil) != unread {
			t.Errorf("%v: %v; unreadable: %v", err, got, w.unread)
		}
	}
}

func TestStalledClientEndsAndSlowOneDoesNot(t *testing.T) {
	h := newTester(t, HandlerOptions{Stall: 1500 * time.Millisecond})
	body := pattern(64 << 20) // more than the sockets' buffers hold
	d, _ := h.file(body)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", h.base[len("http://"):])
		if err != nil {
			t.Fatal(err)
		}
		c.(*net.TCPConn).SetReadBuffer(64 << 10)
		io.WriteString(c, "GET "+blobPath(d)+" HTTP/1.1\r\nHost: h\r\n\r\n")
		return c
	}
	stalled, slow := dial(), dial()
	defer stalled.Close()
	defer slow.Close()
	// The slow one takes far longer in all than a stalled one may take for nothing.
	buf := make([]byte, 512<<10)
	total := 0
	for start := time.Now(); time.Since(start) < 4*time.Second; {
		n, err := io.ReadFull(slow, buf)
		if total += n; err != nil {
			t.Fatalf("the slow client was cut after %d bytes: %v", total, err)
		}
		<-time.After(50 * time.Millisecond)
	}
	stalled.SetReadDeadline(time.Now().Add(10 * time.Second))
	got, err := io.Copy(io.Discard, stalled)
	if got >= int64(len(body)) || err != nil && os.IsTimeout(err) {
		t.Errorf("the stalled client had %d bytes, %v", got, err)
	}
}
