package registryd

import (
	"context"
	"fmt"
	"sync"
)

// pushTurns keep the delete of a manifest apart from the pushes of it, on this host. A
// push makes it visible and then has a tag stand for it; a delete in between would
// find no tag yet, and leave one without a manifest. Any number of pushes have their
// turn at once, or one delete. (Two hosts agree by looking again: Remover.) So they do
// with changes of one tag, which come one after another: they wait here, and not in a
// place that other changes could have.
type pushTurns[K comparable] struct {
	mu sync.Mutex // guards by and what is in it; no I/O under it
	by map[K]*pushTurn
}

// A pushTurn is of those who change one thing now.
type pushTurn struct {
	n       int  // how many
	deletes bool // it is a delete
	over    chan struct{}
}

func newPushTurns[K comparable]() *pushTurns[K] { return &pushTurns[K]{by: map[K]*pushTurn{}} }

// take waits for a turn, at most until ctx ends. done ends it.
func (t *pushTurns[K]) take(ctx context.Context, k K, deletes bool) (done func(), err error) {
	for {
		other := t.join(k, deletes)
		if other == nil {
			return func() { t.leave(k) }, nil
		}
		select {
		case <-other.over:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for another change of %v: %w", k, ctx.Err())
		}
	}
}

// join enters the turn that there is, or begins one; it returns that which has to end
// first, if there is one.
func (t *pushTurns[K]) join(k K, deletes bool) (other *pushTurn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.by[k]
	switch {
	case at == nil:
		at = &pushTurn{deletes: deletes, over: make(chan struct{})}
		t.by[k] = at
	case at.deletes || deletes:
		return at
	}
	at.n++
	return nil
}

func (t *pushTurns[K]) leave(k K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.by[k]
	if at.n--; at.n == 0 {
		delete(t.by, k)
		close(at.over)
	}
}
