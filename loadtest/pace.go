package loadtest

import (
	"context"
	"sync"
	"time"
)

// A pace is the rate at which a slow client reads, over all its connections. The
// nil pace is as fast as it can.
type pace struct {
	rate int64 // bytes a second
	mu   sync.Mutex
	next time.Time // when the bytes read so far are due
}

// step is the most that is read at once: a twentieth of a second's worth, so that
// a slow client reads steadily and not in gulps.
func (p *pace) step() int {
	if p == nil {
		return chunk
	}
	return int(min(max(p.rate/20, 1), chunk))
}

// wait sleeps until n more bytes are due.
func (p *pace) wait(ctx context.Context, n int) error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	if now := time.Now(); p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	until := p.next
	p.mu.Unlock()
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
