package registryd

import (
	"context"
	"fmt"
	"sync"
)

// pushTurns keep the delete of a manifest apart from the pushes of it, on this host. A
// push makes it visible and then has a tag stand for it; a delete in between would
// find no tag yet, and leave one without a manifest. Any number of pushes have their
// turn at once, or one delete. (Two hosts agree by looking again: Remover.)
type pushTurns struct {
	mu sync.Mutex // guards by and what is in it; no I/O under it
	by map[content]*pushTurn
}

// A pushTurn is of those who change one manifest now.
type pushTurn struct {
	n       int  // how many
	deletes bool // it is a delete
	over    chan struct{}
}

func newPushTurns() *pushTurns { return &pushTurns{by: map[content]*pushTurn{}} }

// take waits for a turn, at most until ctx ends. done ends it.
func (t *pushTurns) take(ctx context.Context, k content, deletes bool) (done func(), err error) {
	for {
		other := t.join(k, deletes)
		if other == nil {
			return func() { t.leave(k) }, nil
		}
		select {
		case <-other.over:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for another change of %s in %s: %w", k.d, k.repo, ctx.Err())
		}
	}
}

// join enters the turn that there is, or begins one; it returns that which has to end
// first, if there is one.
func (t *pushTurns) join(k content, deletes bool) (other *pushTurn) {
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

func (t *pushTurns) leave(k content) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.by[k]
	if at.n--; at.n == 0 {
		delete(t.by, k)
		close(at.over)
	}
}
