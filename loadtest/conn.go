package loadtest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// chunk is what one read takes from a socket, in bytes. It is what a core hashes
// without leaving its second-level cache, and large enough that the system call
// costs a tenth of the hashing.
const chunk = 64 << 10

// A conn is one connection of one client, over which one request at a time runs.
//
// net/http's client is not used because of its price for each connection: two
// goroutines and two buffers, three times over for a client that takes three layers
// at a time. Here a connection that waits holds no buffer: it is lent one when the
// socket has something, hashes it and gives it back, so that a few buffers serve
// thousands of clients.
type conn struct {
	net.Conn
	host string
	used bool            // a request went well on it: the next may find it closed
	raw  syscall.RawConn // nil under TLS, which cannot be asked without a buffer
	stop func() bool     // ends the context's hold on it
	slot func()          // gives back what bounds the descriptors

	// What receive asks of ready, and what it answers. They are fields, and take
	// is made once, so that a read allocates nothing.
	take  func(fd uintptr) bool
	limit int
	sink  func([]byte) // nil: the bytes are not wanted
	n     int
	err   error
}

// turns is who may read and hash at a moment: as many as there are cores, and the
// others stand in line for their next chunk. Without it thousands of goroutines are
// ready to run for ten milliseconds each, and whatever else this process does, start
// pulls when they are due or be the upstream, comes round every few seconds.
var turns = make(chan struct{}, runtime.GOMAXPROCS(0))

var chunks = sync.Pool{New: func() any { b := make([]byte, chunk); return &b }}

// newConn takes over c, which ends with ctx. slot is called when it is closed.
func newConn(ctx context.Context, c net.Conn, host string, slot func()) *conn {
	k := &conn{Conn: c, host: host, slot: slot}
	if s, ok := c.(syscall.Conn); ok {
		k.raw, _ = s.SyscallConn()
	}
	k.take = k.ready
	// A deadline wakes whoever reads or writes; closing would race with reuse of
	// the descriptor's number.
	k.stop = context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	return k
}

// Close closes the connection.
func (c *conn) Close() error {
	c.stop()
	err := c.Conn.Close()
	c.slot()
	return err
}

// receive reads up to limit bytes, at least one, and hands them to sink, which must
// not keep them.
func (c *conn) receive(limit int, sink func([]byte)) (int, error) {
	if c.raw == nil {
		buf := chunks.Get().(*[]byte)
		defer chunks.Put(buf)
		n, err := c.Conn.Read((*buf)[:min(limit, chunk)])
		if n > 0 && sink != nil {
			turns <- struct{}{}
			sink((*buf)[:n])
			<-turns
		}
		if n > 0 {
			err = nil
		}
		return n, err
	}
	c.limit, c.sink, c.n, c.err = limit, sink, 0, nil
	if err := c.raw.Read(c.take); err != nil {
		return 0, err
	}
	return c.n, c.err
}

// ready is called by the runtime when the socket may have something; false has it
// call again.
func (c *conn) ready(fd uintptr) bool {
	turns <- struct{}{}
	defer func() { <-turns }()
	buf := chunks.Get().(*[]byte)
	defer chunks.Put(buf)
	flags := 0
	if c.sink == nil {
		flags = unix.MSG_TRUNC // the kernel drops what nobody looks at (tcp(7))
	}
	for {
		n, _, err := unix.Recvfrom(int(fd), (*buf)[:min(c.limit, chunk)], flags)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return false
		case err != nil:
			c.err = err
		case n == 0:
			c.err = io.EOF
		default:
			c.n = n
			if c.sink != nil {
				c.sink((*buf)[:n])
			}
		}
		return true
	}
}

// await returns when there is something to read, so that the buffer for an
// answer's head is taken only then.
func (c *conn) await() error {
	if c.raw == nil {
		return nil
	}
	var end error
	err := c.raw.Read(func(fd uintptr) bool {
		for {
			var b [1]byte
			n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK)
			switch {
			case err == unix.EINTR:
				continue
			case err == unix.EAGAIN:
				return false
			case err != nil:
				end = err
			case n == 0:
				end = io.EOF
			}
			return true
		}
	})
	return errors.Join(err, end)
}

// headBuffer is what an answer's head is read through, in bytes; a longer head is
// read in several steps.
const headBuffer = 4 << 10

var heads = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, headBuffer) }}

// An answer is a response of which the body is still to be read, by one of stream
// and all, and then closed.
type answer struct {
	*http.Response
	c     *conn
	head  *bufio.Reader // what came with the head lies in it
	whole bool          // the body was read to its end, so the connection can go on
}

// answer reads the head of the response to a request of that method.
func (c *conn) answer(method string) (*answer, error) {
	if err := c.await(); err != nil {
		return nil, err
	}
	head := heads.Get().(*bufio.Reader)
	head.Reset(c.Conn)
	for {
		resp, err := http.ReadResponse(head, &http.Request{Method: method})
		if err != nil {
			head.Reset(nil)
			heads.Put(head)
			return nil, err
		}
		if resp.StatusCode >= 200 {
			return &answer{Response: resp, c: c, head: head}, nil
		}
	}
}

// close gives the buffer back.
func (a *answer) close() {
	if a.head != nil {
		a.head.Reset(nil)
		heads.Put(a.head)
		a.head = nil
	}
}

// stream reads up to limit bytes of the body and hands them to each, piece by
// piece of at most step bytes; with sink nil they are dropped in the kernel where
// possible. each is told of every piece and may end the reading with an error. A
// body that ends before its announced length is io.ErrUnexpectedEOF.
func (a *answer) stream(limit int64, step int, sink func([]byte), each func(n int) error) error {
	if a.ContentLength < 0 {
		return a.unframed(limit, step, sink, each)
	}
	left := a.ContentLength
	for left > 0 && limit > 0 {
		want := int(min(left, limit, int64(step)))
		n, err := a.buffered(want, sink)
		if n == 0 {
			a.close() // the buffer; all that follows comes straight from the socket
			n, err = a.c.receive(want, sink)
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		left -= int64(n)
		limit -= int64(n)
		if n > 0 {
			if e := each(n); e != nil {
				return e
			}
		}
		if err != nil {
			return err
		}
	}
	a.whole = left == 0
	return nil
}

// buffered hands up to limit bytes that came with the head to sink.
func (a *answer) buffered(limit int, sink func([]byte)) (int, error) {
	if a.head == nil {
		return 0, nil
	}
	n := min(a.head.Buffered(), limit)
	b, err := a.head.Peek(n)
	if n > 0 && sink != nil {
		sink(b)
	}
	a.head.Discard(n)
	return n, err
}

// unframed is stream for a body that is chunked or ends with its connection.
func (a *answer) unframed(limit int64, step int, sink func([]byte), each func(n int) error) error {
	buf := chunks.Get().(*[]byte)
	defer chunks.Put(buf)
	for limit > 0 {
		n, err := a.Body.Read((*buf)[:min(int64(step), limit, chunk)])
		if n > 0 {
			if sink != nil {
				sink((*buf)[:n])
			}
			limit -= int64(n)
			if e := each(n); e != nil {
				return e
			}
		}
		if err == io.EOF {
			a.whole = true
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keep reports whether another request may use the connection.
func (a *answer) keep() bool { return a.whole && !a.Close }

// errRemote is why an address that is not this machine's is not dialled.
var errRemote = errors.New("is not on this machine; --allow-remote sends load there all the same")

// dial connects to host ("127.0.0.1:5000"). Where the run is kept on this machine,
// the address is looked at after the name was resolved, so that neither a redirect
// nor a token server's name leads the load elsewhere.
func dial(ctx context.Context, host string, secure, remote bool, receiveBuffer int) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1, Control: func(_, address string, c syscall.RawConn) error {
		ip, _, err := net.SplitHostPort(address)
		if err != nil {
			return err
		}
		if a := net.ParseIP(ip); !remote && (a == nil || !a.IsLoopback()) {
			return fmt.Errorf("%s %w", address, errRemote)
		}
		if receiveBuffer > 0 {
			return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer) })
		}
		return nil
	}}
	c, err := d.DialContext(ctx, "tcp", host)
	if err != nil || !secure {
		return c, err
	}
	name, _, _ := net.SplitHostPort(host)
	t := tls.Client(c, &tls.Config{ServerName: name, NextProtos: []string{"http/1.1"}})
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return t, nil
}
