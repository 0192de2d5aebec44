package s3store

import (
	"context"
	"errors"
	"sync"
	"time"

	"hostlocal/manifest"
)

const (
	// maxRanges bounds the bodies of blobs in flight on this host: with the 85
	// MB/s of one connection, 32 saturate 20 Gbit/s.
	maxRanges = 32
	// keptForSmall of them are for ranges up to smallRange: a small blob, or the
	// span that a reader waits at, should not wait for megabytes of others.
	keptForSmall = 4
	smallRange   = 1 << 20
	// queueLimit bounds the wait for a slot. Whoever waits for so long would
	// rather hear about it and ask the next source.
	queueLimit = 30 * time.Second
)

var errCrowded = errors.New("too many ranges of the bucket are being read")

// slots is a counting semaphore that is fair between blobs: those that wait are
// served in turn, one range a blob, in the order of their asking within it. So the
// first range of a new blob waits for one range of each other, not for all of
// theirs. The queue is bounded by time.
type slots struct {
	total, kept int

	mu     sync.Mutex // guards the rest
	used   int
	queues []*queue // of the blobs that have somebody waiting, in the order of their turns
}

type queue struct {
	blob    manifest.Digest
	waiters []*waiter
}

type waiter struct {
	small bool
	ready chan struct{} // closed when the slot is the waiter's
}

func newSlots(total, kept int) *slots { return &slots{total: total, kept: kept} }

// acquire waits for a slot for n bytes (n < 0: many) of a blob. Each slot is given
// back by one release.
func (s *slots) acquire(ctx context.Context, blob manifest.Digest, n int64) error {
	w := &waiter{small: n >= 0 && n <= smallRange, ready: make(chan struct{})}
	s.mu.Lock()
	s.push(blob, w)
	s.grant()
	s.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	default:
	}
	ctx, cancel := context.WithTimeoutCause(ctx, queueLimit, errCrowded)
	defer cancel()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-w.ready: // granted meanwhile
		return nil
	default:
	}
	s.remove(blob, w)
	return context.Cause(ctx)
}

// lent is how long a slot is kept by a body that nobody reads. Readers that are
// paced by their own client, or by a full disk, should not hold up the others: their
// body stays open, and asks for a slot again when it is read.
const lent = 2 * time.Second

// A slot is one body's turn. One goroutine reads the body.
type slot struct {
	of   *slots
	blob manifest.Digest
	n    int64
	idle *time.Timer

	mu   sync.Mutex // guards held
	held bool
}

// take waits for a slot for n bytes of a blob; it is in use at first.
func (s *slots) take(ctx context.Context, blob manifest.Digest, n int64) (*slot, error) {
	if err := s.acquire(ctx, blob, n); err != nil {
		return nil, err
	}
	t := &slot{of: s, blob: blob, n: n, held: true}
	t.idle = time.AfterFunc(lent, t.drop)
	t.idle.Stop()
	return t, nil
}

// use begins a read.
func (t *slot) use(ctx context.Context) error {
	t.idle.Stop()
	t.mu.Lock()
	held := t.held
	t.mu.Unlock()
	if held {
		return nil // a timer that is late may still drop it: one body too many, for one read
	}
	if err := t.of.acquire(ctx, t.blob, t.n); err != nil {
		return err
	}
	t.mu.Lock()
	t.held = true
	t.mu.Unlock()
	return nil
}

// pause ends a read.
func (t *slot) pause() { t.idle.Reset(lent) }

// giveBack ends the body.
func (t *slot) giveBack() {
	t.idle.Stop()
	t.drop()
}

func (t *slot) drop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held {
		t.held = false
		t.of.release()
	}
}

func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	s.grant()
}

// push queues w. The caller holds mu.
func (s *slots) push(blob manifest.Digest, w *waiter) {
	for _, q := range s.queues {
		if q.blob == blob {
			q.waiters = append(q.waiters, w)
			return
		}
	}
	s.queues = append(s.queues, &queue{blob, []*waiter{w}})
}

// grant gives out what is free. The caller holds mu.
func (s *slots) grant() {
	for i := 0; i < len(s.queues); {
		q := s.queues[i]
		w := q.waiters[0]
		free := s.total - s.used
		if free <= 0 {
			return
		}
		if !w.small && free <= s.kept {
			i++
			continue
		}
		s.used++
		close(w.ready)
		q.waiters = q.waiters[1:]
		s.queues = append(s.queues[:i], s.queues[i+1:]...)
		if len(q.waiters) > 0 {
			s.queues = append(s.queues, q)
		}
	}
}

// remove takes a waiter that gave up out of the queue. The caller holds mu.
func (s *slots) remove(blob manifest.Digest, w *waiter) {
	for i, q := range s.queues {
		if q.blob != blob {
			continue
		}
		for j, other := range q.waiters {
			if other == w {
				q.waiters = append(q.waiters[:j:j], q.waiters[j+1:]...)
				break
			}
		}
		if len(q.waiters) == 0 {
			s.queues = append(s.queues[:i], s.queues[i+1:]...)
		}
		s.grant() // w may have stood before a small one
		return
	}
}
