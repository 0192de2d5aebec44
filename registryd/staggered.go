package registryd

import (
	"context"
	"time"
)

// staggered asks first, and second too as soon as first failed or was silent for
// patience. The first good answer counts and ends the question that is still open;
// if there is none, second's error does: it is the one who knows, so that first is
// not waited for when second says no.
func staggered[V any](ctx context.Context, bg *background, patience time.Duration, first, second func(context.Context) (V, error)) (V, error) {
	type result struct {
		val V
		err error
	}
	var none V
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ask := func(f func(context.Context) (V, error)) <-chan result {
		c := make(chan result, 1)
		if !bg.run(flightLimit, func(context.Context) {
			v, err := f(ctx)
			c <- result{v, err}
		}) {
			c <- result{none, errClosed}
		}
		return c
	}
	early := ask(first)
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case r := <-early:
		if r.err == nil {
			return r.val, nil
		}
		return second(ctx)
	case <-t.C:
	}
	late := ask(second)
	select {
	case r := <-early:
		if r.err != nil {
			r = <-late
		}
		return r.val, r.err
	case r := <-late:
		if r.err == nil || answered(r.err) {
			return r.val, r.err
		}
		if e := <-early; e.err == nil {
			return e.val, nil
		}
		return none, r.err
	}
}
