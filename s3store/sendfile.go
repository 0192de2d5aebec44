package s3store

import (
	"context"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// A source of bytes that is a syscall.Conn has them in that descriptor, each at the
// offset that it has in the source: a file of its own, which an *os.File is, or one that
// it waits for to grow. What can be read of the source can be read there.
//
// Where the store is spoken to without TLS its bytes go from the page cache to the
// socket by sendfile(2), and not through this process: half of what it costs to send a
// part.

// An inFile is a body that lies in a file.
type inFile struct {
	*window
	file syscall.RawConn
	base int64 // where the file has the window's first byte
}

// inFile returns where the window's bytes lie in a file; nil if they do not.
func (w *window) inFile() *inFile {
	s, ok := w.r.(*section)
	if !ok {
		return nil
	}
	c, ok := s.source.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return &inFile{w, raw, s.off + w.base}
}

// sendTo sends up to n bytes from where the window stands, as many as the socket takes now.
func (f *inFile) sendTo(socket uintptr, n int64) (sent int, err error) {
	off := f.base + f.at
	n = min(n, f.size-f.at)
	if cerr := f.file.Control(func(fd uintptr) { sent, err = unix.Sendfile(int(socket), int(fd), &off, int(n)) }); cerr != nil {
		return 0, cerr
	}
	if sent <= 0 {
		return 0, err
	}
	_, err = f.Seek(int64(sent), io.SeekCurrent)
	return sent, err
}

// dialer makes connections that send such bodies.
type dialer struct{ net.Dialer }

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := d.DialContext(ctx, network, address)
	if tcp, ok := c.(*net.TCPConn); ok {
		return storeConn{tcp}, nil
	}
	return c, err
}

// A storeConn is a connection to a store, or below TLS to one.
type storeConn struct{ *net.TCPConn }

// ReadFrom implements io.ReaderFrom: net/http has it send a body. What sendfile does not
// do, since the file failed, say, or the connection, is left to reading and writing,
// which tell one from the other.
func (c storeConn) ReadFrom(r io.Reader) (n int64, err error) {
	if limited, ok := r.(*io.LimitedReader); ok {
		if o, ok := limited.R.(*outgoing); ok && o.file != nil {
			n = c.send(o, limited.N)
			limited.N -= n
		}
	}
	m, err := c.TCPConn.ReadFrom(r)
	return n + m, err
}

// send sends up to n bytes of a file, and returns how many have left.
func (c storeConn) send(o *outgoing, n int64) (sent int64) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Write(func(to uintptr) (done bool) {
		for sent < n {
			m, err := o.sendTo(to, n-sent)
			switch sent += int64(m); {
			case err == unix.EAGAIN:
				return false // until there is room
			case err == unix.EINTR:
			case err != nil, m == 0:
				return true
			}
		}
		return true
	})
	return sent
}
