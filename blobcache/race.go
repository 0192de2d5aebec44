package blobcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// ask asks first, and races it against second if there is one.
func (o *opener) ask(ctx context.Context, first, second *candidate, patience time.Duration, r request) (answer, error) {
	if second != nil {
		return o.race(ctx, first, second, patience, r)
	}
	a, err := ask(ctx, first, r)
	if err != nil && ctx.Err() == nil {
		o.exclude(first, err)
	}
	return a, err
}

// race opens first, and second as well once first has failed or been silent for
// patience. The first answer wins and the other exchange is cancelled. Failures
// are noted; the error is the last of them.
func (o *opener) race(ctx context.Context, first, second *candidate, patience time.Duration, asked request) (answer, error) {
	results := make(chan result) // unbuffered: an answer is taken here, or closed by who got it
	ended := make(chan struct{})
	defer close(ended)
	cancels := make(map[*candidate]context.CancelFunc, 2)
	defer func() {
		for _, cancel := range cancels {
			cancel()
		}
	}()
	start := func(c *candidate) {
		ctx, cancel := context.WithCancel(ctx)
		cancels[c] = cancel
		o.spawn(func() {
			a, err := ask(ctx, c, asked)
			select {
			case results <- result{a, c, err}:
			case <-ended:
				if err == nil {
					a.body.Close()
				}
			}
		})
	}
	start(first)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for running := 1; ; {
		select {
		case r := <-results:
			if r.err == nil {
				r.body = &endWith{r.body, cancels[r.asked]}
				delete(cancels, r.asked) // its exchange ends with its body
				return r.answer, nil
			}
			o.exclude(r.asked, r.err)
			if running--; running == 0 && second == nil {
				return answer{}, r.err
			}
		case <-timer.C:
		case <-ctx.Done():
			return answer{}, ctx.Err()
		}
		if second != nil {
			start(second)
			second, running = nil, running+1
		}
	}
}

// A result is what came of asking a source.
type result struct {
	answer
	asked *candidate
	err   error
}

// ask opens one source.
func ask(ctx context.Context, c *candidate, r request) (answer, error) {
	if _, planner := c.Source.(Planner); r.plain && !planner {
		r.n = -1
	}
	body, from, size, err := c.Open(ctx, r.off, r.n)
	if err == nil && from != r.off && from != 0 {
		body.Close()
		err = fmt.Errorf("asked for byte %d, was sent byte %d", r.off, from)
	}
	if err != nil {
		return answer{}, err
	}
	return answer{body: body, from: from, size: size, all: r.n < 0, by: c}, nil
}

// endWith ends a body's context with the body.
type endWith struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *endWith) Close() error {
	b.cancel()
	return b.ReadCloser.Close()
}

// isTimeout reports whether err is a stall.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}
