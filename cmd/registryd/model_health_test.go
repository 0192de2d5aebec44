package main

import (
	"sync"
	"testing"
	"time"
)

// A health says since when a source has been all right.
type health struct {
	mu    sync.Mutex // guards what follows
	bad   bool
	since time.Time
}

func (h *health) ail() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bad = true
}

// heal says that the source is all right, and that nobody has a reason to hold its
// past against it after the grace.
func (h *health) heal(grace time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bad, h.since = false, time.Now().Add(grace)
}

// wellSince reports whether the source has been all right from then until now.
func (h *health) wellSince(t time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.bad && h.since.Before(t)
}

// A lateness is how late this machine is: what a goroutine that only wants to run
// every few milliseconds had to wait. Bounds in time are wider by that much.
type lateness struct {
	mu    sync.Mutex // guards what follows
	worst time.Duration
	at    time.Time
}

const (
	noiseStep   = 10 * time.Millisecond
	noiseMemory = 20 * time.Second // longer than any answer may take
)

func listen(t *testing.T) *lateness {
	n := &lateness{}
	stop, ended := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(stop); <-ended })
	go func() {
		defer close(ended)
		tick := time.NewTicker(noiseStep)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			now := time.Now()
			late := now.Sub(last) - noiseStep
			last = now
			n.mu.Lock()
			if late > n.worst || now.Sub(n.at) > noiseMemory {
				n.worst, n.at = late, now
			}
			n.mu.Unlock()
		}
	}()
	return n
}

// late is the worst delay of the last while, several times over: an answer passes
// through several goroutines.
func (n *lateness) late() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return 4 * max(n.worst, 0)
}
