package registryd

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// tagLimit bounds what a client waits for the confirmation of a tag that is
	// known. The promise is 2 s for bucket, token and upstream together; what is
	// left is for asking the bucket what a bare name means, and for the answer.
	tagLimit = 1800 * time.Millisecond

	// answerLimit bounds what a client waits for anything else. The promise is
	// an error within 10 s; docker and podman have no bound of their own.
	answerLimit = 9 * time.Second

	// flightLimit ends work that no source answers. It is longer than any
	// client waits, so that what comes late still serves the next client.
	flightLimit = 30 * time.Second
)

// errLate is wrapped by the error of a caller whose bound ended before the work
// did. It is an outage: errors.Is tells it as context.DeadlineExceeded.
var errLate = fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)

// A flight is one piece of work for all who ask for the same thing meanwhile. It
// has a context of its own: the callers' bounds end their answers, not the work.
type flight[V any] struct {
	began time.Time
	done  chan struct{} // closed when val and err are set
	val   V
	err   error
}

// flights are those under way, by what they are for.
type flights[K comparable, V any] struct {
	bg *background

	mu     sync.Mutex // guards flying; held for map operations only
	flying map[K]*flight[V]
}

func newFlights[K comparable, V any](bg *background) *flights[K, V] {
	return &flights[K, V]{bg: bg, flying: map[K]*flight[V]{}}
}

// join returns the flight for key, and starts one with work if there is none.
//
// A caller may look for a result, not find it, and join only after the flight
// that brought it has ended: work has to look again before it asks anybody.
//
//	caller: look, miss ─────────────────────────── join: a second flight
//	flight:             fetch, keep, done, leave ┘       looks again: there
func (fs *flights[K, V]) join(key K, work func(context.Context) (V, error)) *flight[V] {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f, ok := fs.flying[key]; ok {
		return f
	}
	f := &flight[V]{began: time.Now(), done: make(chan struct{})}
	started := fs.bg.run(flightLimit, func(ctx context.Context) {
		f.val, f.err = work(ctx)
		fs.mu.Lock()
		delete(fs.flying, key)
		fs.mu.Unlock()
		close(f.done)
	})
	if !started {
		f.err = errClosed
		close(f.done)
		return f
	}
	fs.flying[key] = f
	return f
}

// since waits for the result of a flight for key, as wait does. One that began
// before asked may have been answered before what the caller knows of: if older says
// of its result that this may be so, the flight after it is waited for.
func (fs *flights[K, V]) since(ctx context.Context, asked, until time.Time, key K, older func(V, error) bool, work func(context.Context) (V, error)) (V, error) {
	f := fs.join(key, work)
	v, err := f.wait(ctx, until)
	if f.began.Before(asked) && f.over() && older(v, err) {
		v, err = fs.join(key, work).wait(ctx, until)
	}
	return v, err
}

// over reports whether the flight has ended.
func (f *flight[V]) over() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// wait returns the flight's result, or an error that wraps errLate at the time
// given, or ctx's error. A result that is there is returned whatever the time.
func (f *flight[V]) wait(ctx context.Context, until time.Time) (V, error) {
	select {
	case <-f.done:
		return f.val, f.err
	default:
	}
	var none V
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-f.done:
		return f.val, f.err
	case <-ctx.Done():
		return none, ctx.Err()
	case <-t.C:
		return none, errLate
	}
}
