package registryd

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// senders bounds how many send from a file at one moment, of those that do not wait
// for their clients. net/http has a buffer of 32 KiB for each that is at it, and of
// thousands whom the end of a fill wakes, one that comes back from the system call
// stands in line for a processor with it. So many make 512 KiB, which is made anew with
// each collection, and keep a disk busy.
var senders = make(chan struct{}, 16)

// sendNow sends what the socket takes of the next n bytes of f without waiting, by
// sendfile(2), and returns how much that was. full says then that there is no room
// for more; awaitRoom waits until there is. A header that waits for the body leaves
// before it, with MSG_MORE: a packet of its own would wake the client for nothing.
//
// net's own ReadFrom would wait within, and net/http holds a buffer of 32 KiB
// around that: of a thousand clients with four connections each, which are slower
// than the disk, that made 100 MiB of heap that nobody ever wrote a byte to, and a
// collector that had nothing to collect and never rested.
func (c *conn) sendNow(f *os.File, n int64) (sent int64, err error) {
	s := &c.sending
	s.from, s.left, s.sent, s.err = int(f.Fd()), n, 0, nil
	s.head, s.more = c.head, false
	err = c.raw.Write(s.step)
	runtime.KeepAlive(f) // and with it the descriptor
	c.full = s.err == unix.EAGAIN
	if c.head != nil {
		if c.head = s.head; len(c.head) == 0 {
			c.dropHead()
		}
		s.head = nil
	}
	switch {
	case err != nil:
		return s.sent, err
	case s.err == nil, s.err == io.EOF, s.err == unix.EAGAIN:
		return s.sent, nil
	}
	return s.sent, &net.OpError{Op: "readfrom", Net: c.RemoteAddr().Network(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("sendfile", s.err)}
}

// A sending is what sendNow and awaitRoom do with the descriptor. It belongs to the
// connection, with the functions made once: garbage in each step would have the
// collector look through thousands of stacks for it.
type sending struct {
	from       int
	left, sent int64  // of the file
	head       []byte // what goes before it
	more       bool   // the kernel has some of head, and keeps it for what follows
	err        error
	step       func(to uintptr) bool

	asked bool
	poll  [1]unix.PollFd
	room  func(fd uintptr) bool
}

func (s *sending) init() {
	s.step = func(to uintptr) bool {
		s.sendHead(int(to))
		for s.left > 0 && s.err == nil {
			m, err := unix.Sendfile(int(to), s.from, nil, int(s.left))
			switch {
			case err == unix.EINTR:
			case err != nil:
				s.err = err
			case m == 0:
				s.err = io.EOF
			default:
				s.sent += int64(m)
				s.left -= int64(m)
			}
		}
		if s.more && s.sent == 0 {
			// Nothing has followed, of a file that has become shorter, say: what the
			// kernel keeps would leave only after 200 ms. Asking again for what is set
			// on every connection, that it does not wait, is how to say "now". A unix
			// socket keeps nothing, and says that it has no such option.
			_ = unix.SetsockoptInt(int(to), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		}
		return true
	}
	s.room = func(fd uintptr) bool {
		if s.asked {
			return true // the poller says so
		}
		// Room that there has been since before this call the poller does not tell of.
		s.asked = true
		s.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT}
		var n int
		n, s.err = unix.Poll(s.poll[:], 0)
		return n > 0 || s.err != nil && s.err != unix.EINTR
	}
}

// sendHead sends what goes before the file, as far as there is room.
func (s *sending) sendHead(to int) {
	for len(s.head) > 0 && s.err == nil {
		m, err := unix.SendmsgN(to, s.head, nil, nil, unix.MSG_MORE)
		switch {
		case err == unix.EINTR:
		case err != nil:
			s.err = err
		default:
			s.head, s.more = s.head[m:], true
		}
	}
}

// awaitRoom waits until the socket takes more, or its write deadline has passed.
func (c *conn) awaitRoom() error {
	s := &c.sending
	s.asked, s.err = false, nil
	err := c.raw.Write(s.room)
	if s.err != nil && s.err != unix.EINTR {
		err = errors.Join(err, os.NewSyscallError("poll", s.err))
	}
	return err
}

// rawOf is how a connection's descriptor is reached: one of those that a listener of
// this host accepts, TCP or unix. It fails on one that is closed, whose every call
// will say so.
func rawOf(c net.Conn) syscall.RawConn {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return closedConn{err}
	}
	return raw
}

// A closedConn is no connection any more.
type closedConn struct{ err error }

func (c closedConn) Control(func(uintptr)) error    { return c.err }
func (c closedConn) Read(func(uintptr) bool) error  { return c.err }
func (c closedConn) Write(func(uintptr) bool) error { return c.err }
