package registryd

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errClosed answers what is asked for during a shutdown.
var errClosed = errors.New("the registry is shutting down")

// background owns the goroutines of a Registry: work that outlives the request
// which started it, but not the Registry.
type background struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex // guards closed, so that no Add follows the Wait
	closed bool
	wg     sync.WaitGroup
}

func newBackground() *background {
	b := &background{}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// run starts f with a context that ends after limit, or at close; false: it is
// closed and f was not started.
func (b *background) run(limit time.Duration, f func(context.Context)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.wg.Go(func() {
		ctx, cancel := context.WithTimeout(b.ctx, limit)
		defer cancel()
		f(ctx)
	})
	return true
}

// close ends all contexts and waits for all goroutines, or for ctx.
func (b *background) close(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.cancel()
	idle := make(chan struct{})
	go func() {
		b.wg.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
