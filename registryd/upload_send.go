package registryd

import (
	"context"
	"errors"
	"io"
	"syscall"

	"hostlocal/manifest"
)

// A transit is a blob on its way to the bucket while its bytes arrive. The last of
// them is held back until the digest matched, so that nothing wrong is completed there.
type transit struct {
	cancel  context.CancelFunc
	spool   spooled
	size    int64         // of the blob, in bytes
	decided chan struct{} // closed when wrong is set
	wrong   error         // nil: the digest matched
	done    chan error    // gets what became of it, once
}

// sendArriving begins to send a blob of size bytes. decide and wait must follow.
func (s *session) sendArriving(ctx context.Context, d manifest.Digest, size int64) *transit {
	ctx, cancel := context.WithCancel(ctx)
	x := &transit{cancel: cancel, spool: s.spool, size: size, decided: make(chan struct{}), done: make(chan error, 1)}
	go func() { x.done <- s.g.writer.push(ctx, d, size, x.during, true) }()
	return x
}

// during is the blob for as long as ctx lasts.
func (x *transit) during(ctx context.Context) io.ReaderAt { return passenger{x, ctx} }

// A passenger reads a transit.
type passenger struct {
	*transit
	ctx context.Context
}

// ReadAt implements io.ReaderAt.
func (p passenger) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) >= p.size {
		select {
		case <-p.decided:
			if p.wrong != nil {
				return 0, p.wrong
			}
		case <-p.ctx.Done():
			return 0, p.ctx.Err()
		}
	}
	return p.spool.ReadAtContext(p.ctx, b, off)
}

// Await implements s3store.Awaiter.
func (p passenger) Await(off, n int64) error { return awaitLast(p, off, n) }

// Such bytes leave by sendfile, where they can (s3store).
var _, _ syscall.Conn = passenger{}, landed{}

// SyscallConn implements syscall.Conn.
func (p passenger) SyscallConn() (syscall.RawConn, error) { return p.spool.SyscallConn() }

// decide says what became of the body: nil if the digest matched. What broke off may
// be gone on with; what is wrong leaves nothing in the bucket.
func (x *transit) decide(err error) {
	x.wrong = err
	close(x.decided)
	if err != nil && !errors.Is(err, manifest.ErrMismatch) {
		x.cancel()
	}
}

// wait returns what became of it.
func (x *transit) wait() error {
	defer x.cancel()
	return <-x.done
}

// landed is the upload, all of which is here, for as long as ctx lasts.
func (s *session) landed(ctx context.Context) io.ReaderAt { return landed{s.spool, ctx} }

type landed struct {
	spool spooled
	ctx   context.Context
}

// Await implements s3store.Awaiter.
func (l landed) Await(off, n int64) error { return awaitLast(l, off, n) }

// awaitLast waits for n bytes of an upload: where the last of them can be read, all before
// it can.
func awaitLast(r io.ReaderAt, off, n int64) error {
	var last [1]byte
	if n, err := r.ReadAt(last[:], off+n-1); n == 0 {
		return err
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (l landed) ReadAt(b []byte, off int64) (int, error) { return l.spool.ReadAtContext(l.ctx, b, off) }

// SyscallConn implements syscall.Conn.
func (l landed) SyscallConn() (syscall.RawConn, error) { return l.spool.SyscallConn() }
