package registryd

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A conn is a client's connection as the server sees it. It takes three of
// net/http's costs off an answer, and keeps sendfile for a large one:
//
// Deadlines are noted and looked at in a sweep over all connections, four times a
// second. net/http moves three of them for each request, and each move in the
// runtime is locks and a timer, 7% of the time that a manifest costs. All that are
// set here are seconds long, so a quarter of one does not matter.
//
// That a client has left is noticed in the same sweep. net/http has a goroutine read
// ahead for it during each request, which costs a system call and a hand-over, and
// of a client that is slow some 5 KiB.
//
// The header and a body from memory leave in one system call, and the header and a
// file in one packet. net/http buffers 4 KiB: of 64 KiB it would send the first 4,
// which wakes the client for little, and then the rest.
type conn struct {
	net.Conn
	from io.ReaderFrom   // Conn, if it can: it sends files
	raw  syscall.RawConn // of Conn
	born time.Time
	end  context.CancelFunc // of all that is done for this client

	prev, next *conn // guarded by connections.mu; next is nil outside the queue
	answering  bool  // likewise: the last sweep found it so
	heard      bool  // likewise: it has brought a request

	mu          sync.Mutex // guards the deadlines; held over no I/O
	read, write deadline

	// What follows belongs to the goroutine that answers.
	patient bool // whoever calls ReadFrom waits for room himself
	full    bool // there was none for all of what he had
	sending sending
	joining bool
	held    *[joinLimit]byte // nil: nothing is held back until the body comes
	head    []byte           // what is, in held
	pieces  [2][]byte
}

// longAgo as a deadline ends what is under way.
var longAgo = time.Unix(1, 0)

// A deadline is when reading or writing is to end with an error. The zero value
// is none.
type deadline struct {
	at   time.Time
	told bool // the connection below knows that it has passed
}

func newConn(c net.Conn) *conn {
	from, _ := c.(io.ReaderFrom)
	own := &conn{Conn: c, from: from, raw: rawOf(c), born: time.Now(), end: func() {}}
	own.sending.init()
	return own
}

// set notes a deadline. It returns what the connection below must be told now, if
// anything: that the time is over, which is how net/http ends a read that is under
// way, or that it is not any more.
func (d *deadline) set(t, born time.Time) (tell time.Time, now bool) {
	d.at = t
	switch over := !t.IsZero() && t.Before(born); {
	case over:
		d.told = true
		return t, true
	case d.told:
		d.told = false
		return time.Time{}, true
	}
	return time.Time{}, false
}

// passed reports, once, that the time is over.
func (d *deadline) passed(now time.Time) bool {
	if d.told || d.at.IsZero() || now.Before(d.at) {
		return false
	}
	d.told = true
	return true
}

// SetReadDeadline implements net.Conn. The deadline is kept within sweepEvery.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if tell, now := c.read.set(t, c.born); now {
		return c.Conn.SetReadDeadline(tell)
	}
	return nil
}

// SetWriteDeadline implements net.Conn. The deadline is kept within sweepEvery.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if tell, now := c.write.set(t, c.born); now {
		return c.Conn.SetWriteDeadline(tell)
	}
	return nil
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// expire ends reading or writing if its deadline has passed. On a connection that
// is closed that fails, and nobody minds.
func (c *conn) expire(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read.passed(now) {
		c.Conn.SetReadDeadline(longAgo)
	}
	if c.write.passed(now) {
		c.Conn.SetWriteDeadline(longAgo)
	}
}

// CloseWrite is how net/http says that an answer was the last one.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// copies are for connections that send no files: unix sockets.
var copies = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// ReadFrom implements io.ReaderFrom: by sendfile, where r is a file or a limited
// one and the connection is TCP. If patient is set it sends of a limited file only
// what there is room for.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	if limited, ok := r.(*io.LimitedReader); ok && c.patient {
		if f, ok := limited.R.(*os.File); ok {
			c.joining = false
			n, err := c.sendNow(f, limited.N)
			limited.N -= n
			return n, err
		}
	}
	if err := c.endJoin(); err != nil {
		return 0, err
	}
	if c.from != nil {
		return c.from.ReadFrom(r)
	}
	buf := copies.Get().(*[64 << 10]byte)
	defer copies.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{c.Conn}, r, buf[:])
}

// heads are the beginnings of answers that wait for the rest of them.
var heads = sync.Pool{New: func() any { return new([joinLimit]byte) }}

// joinLimit is the size of net/http's buffer of a connection, in bytes: what a
// header and the beginning of a body come in.
const joinLimit = 4 << 10

// join has the next write, if it is a small one, leave with the one after it.
// endJoin must follow.
func (c *conn) join() { c.joining = true }

// endJoin sends what still waits. If that fails the connection is closed: part of
// an answer may have left, and nobody but us knows.
func (c *conn) endJoin() error {
	c.joining = false
	if c.head == nil {
		return nil
	}
	_, err := c.Conn.Write(c.head)
	c.dropHead()
	if err != nil {
		c.Conn.Close()
	}
	return err
}

func (c *conn) dropHead() {
	heads.Put(c.held)
	c.held, c.head = nil, nil
}

func (c *conn) Write(p []byte) (int, error) {
	switch {
	case c.head != nil:
		return c.writeBoth(p)
	case c.joining && len(p) <= joinLimit:
		c.held = heads.Get().(*[joinLimit]byte)
		c.head = c.held[:copy(c.held[:], p)]
		return len(p), nil
	}
	c.joining = false
	return c.Conn.Write(p)
}

// writeBoth sends what waits and p, and returns how much of p has left.
func (c *conn) writeBoth(p []byte) (int, error) {
	c.joining = false
	c.pieces = [2][]byte{c.head, p}
	both := net.Buffers(c.pieces[:])
	n, err := both.WriteTo(c.Conn)
	n = max(0, n-int64(len(c.head)))
	c.pieces = [2][]byte{}
	c.dropHead()
	return int(n), err
}

// Read implements net.Conn. net/http's look-out for a client that leaves is the one
// that reads into a single byte: it is told that there was nothing, and ends.
func (c *conn) Read(p []byte) (int, error) {
	if cap(p) == 1 {
		return 0, nil
	}
	return c.Conn.Read(p)
}

// endIfLeft ends what is done for a client that has closed its connection, or its
// end of it, as net/http would.
func (c *conn) endIfLeft() {
	left := false
	err := c.raw.Control(func(fd uintptr) {
		now := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(now, 0)
		left = err == nil && n > 0
	})
	if left || err != nil {
		c.end()
	}
}

// connKey finds a request's conn in its context.
type connKey struct{}

// withConn is the server's ConnContext: called once, before anything is done for the
// client.
func withConn(ctx context.Context, nc net.Conn) context.Context {
	c := nc.(*conn)
	ctx, c.end = context.WithCancel(context.WithValue(ctx, connKey{}, c))
	return ctx
}
