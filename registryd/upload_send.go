package registryd

import (
	"context"
	"errors"
	"io"

	"hostlocal/manifest"
)

// A transit is a blob on its way to the bucket while its bytes arrive. The last of
// them is held back until the digest matched, so that nothing wrong is completed there.
type transit struct {
	ctx     context.Context
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
	x := &transit{ctx: ctx, cancel: cancel, spool: s.spool, size: size, decided: make(chan struct{}), done: make(chan error, 1)}
	go func() { x.done <- s.g.writer.push(ctx, d, size, x, true) }()
	return x
}

// ReadAt implements io.ReaderAt.
func (x *transit) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) >= x.size {
		select {
		case <-x.decided:
			if x.wrong != nil {
				return 0, x.wrong
			}
		case <-x.ctx.Done():
			return 0, x.ctx.Err()
		}
	}
	return x.spool.ReadAtContext(x.ctx, p, off)
}

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

// landed is an upload that is complete, as an io.ReaderAt.
type landed struct {
	ctx   context.Context
	spool spooled
}

func (l landed) ReadAt(p []byte, off int64) (int, error) {
	return l.spool.ReadAtContext(l.ctx, p, off)
}

var _ io.ReaderAt = landed{}
