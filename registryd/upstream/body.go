package upstream

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// errStalled is why a body that brings nothing is given up. It is a timeout to
// whoever looks for one.
var errStalled = fmt.Errorf("no byte for too long: %w", os.ErrDeadlineExceeded)

// A body is what is read of an answer. A read that brings nothing within the stall
// timeout fails; the time between reads does not count, so that a slow reader is
// not taken for a stalled upstream.
type body struct {
	c      *Client
	a      *ask
	from   io.ReadCloser
	cancel context.CancelCauseFunc // ends the exchange
	ctx    context.Context
	timer  *time.Timer // runs during a read only
	once   sync.Once
	broken bool              // a read failed
	done   func(broken bool) // gives back what the body holds; called once
}

// watch makes a body of from. cancel must end the exchange that from belongs to.
func (c *Client) watch(ctx context.Context, cancel context.CancelCauseFunc, a *ask, from io.ReadCloser, done func(broken bool)) *body {
	b := &body{c: c, a: a, from: from, ctx: ctx, cancel: cancel, done: done}
	b.timer = time.AfterFunc(time.Hour, func() { cancel(fmt.Errorf("%w (%v)", errStalled, c.cfg.StallTimeout)) })
	b.timer.Stop()
	return b
}

func (b *body) Read(p []byte) (int, error) {
	b.timer.Reset(b.c.cfg.StallTimeout)
	n, err := b.from.Read(p)
	b.timer.Stop()
	if n > 0 && b.c.cfg.ObserveBytes != nil {
		b.c.cfg.ObserveBytes(int64(n))
	}
	if err == nil || err == io.EOF {
		return n, err
	}
	if cause := context.Cause(b.ctx); cause != nil {
		err = cause
	}
	b.broken = true
	err = b.c.fail(b.a, err)
	b.c.status.failed(err)
	return n, err
}

// Close ends the exchange at once.
func (b *body) Close() error {
	b.once.Do(func() {
		b.timer.Stop()
		b.cancel(context.Canceled)
		b.from.Close()
		b.done(b.broken)
	})
	return nil
}
