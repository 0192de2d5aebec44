package registryd

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// senders bounds how many send from a file at one moment, of those that do not wait
// for their clients. net/http has a buffer of 32 KiB for each that is at it, and of
// thousands whom the end of a fill wakes, one that comes back from the system call
// stands in line for a processor with it. So many make 2 MiB, and keep a disk busy.
var senders = make(chan struct{}, 64)

// sendNow sends what the socket takes of the next n bytes of f without waiting, by
// sendfile(2), and returns how much that was. full says then that there is no room
// for more; awaitRoom waits until there is.
//
// net's own ReadFrom would wait within, and net/http holds a buffer of 32 KiB
// around that: of a thousand clients with four connections each, which are slower
// than the disk, that made 100 MiB of heap that nobody ever wrote a byte to, and a
// collector that had nothing to collect and never rested.
func (c *conn) sendNow(f *os.File, n int64) (sent int64, err error) {
	in, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var errno error
	send := func(from uintptr) {
		err = c.raw.Write(func(to uintptr) bool {
			for sent < n && errno == nil {
				var m int
				m, errno = unix.Sendfile(int(to), int(from), nil, int(n-sent))
				switch {
				case errno == unix.EINTR:
					errno = nil
				case errno == nil && m == 0:
					errno = io.EOF
				case m > 0:
					sent += int64(m)
				}
			}
			return true
		})
	}
	if failed := in.Control(send); failed != nil {
		return sent, failed
	}
	c.full = errno == unix.EAGAIN
	switch {
	case err != nil:
		return sent, err
	case errno == nil, errno == io.EOF, errno == unix.EAGAIN:
		return sent, nil
	}
	return sent, &net.OpError{Op: "readfrom", Net: c.RemoteAddr().Network(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("sendfile", errno)}
}

// awaitRoom waits until the socket takes more, or its write deadline has passed.
func (c *conn) awaitRoom() error {
	asked := false
	var errno error
	err := c.raw.Write(func(fd uintptr) bool {
		if asked {
			return true // the poller says so
		}
		// Room that there has been since before this call the poller does not tell of.
		asked = true
		now := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		var n int
		n, errno = unix.Poll(now, 0)
		return n > 0 || errno != nil && errno != unix.EINTR
	})
	if errno != nil && errno != unix.EINTR {
		err = errors.Join(err, os.NewSyscallError("poll", errno))
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
