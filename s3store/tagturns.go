package s3store

import (
	"context"
	"fmt"
	"sync"
)

// tagTurns have this host make one change of a tag at a time. A tag is several objects,
// what it means and its history: a removal beside a write would take the one and leave
// the other, and a removal of a manifest would take a tag that has just moved on. Other
// hosts have turns of their own (see RemoveTag).
type tagTurns struct {
	mu   sync.Mutex // guards over; no I/O under it
	over map[string]chan struct{}
}

// take waits for the turn of what lies below root, at most until ctx ends. done ends it.
func (t *tagTurns) take(ctx context.Context, root string) (done func(), err error) {
	for {
		t.mu.Lock()
		other := t.over[root]
		if other == nil {
			over := make(chan struct{})
			if t.over == nil {
				t.over = map[string]chan struct{}{}
			}
			t.over[root] = over
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.over, root)
				t.mu.Unlock()
				close(over)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for another change of %q: %w", root, context.Cause(ctx))
		}
	}
}
