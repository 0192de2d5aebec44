package line

import (
	"context"
	"sync"
	"time"
)

// A Pacer lets bytes pass at a rate. Whoever wants to send reserves the time that
// his bytes take and sleeps until it is over: one timer a chunk, no busy loop, and
// those who share a pacer take turns.
type Pacer struct {
	Rate int64 // bytes per second, above 0; not to be changed

	mu   sync.Mutex
	next time.Time // guarded by mu: when the last reservation is over
}

// slack is how far a pacer may run behind the clock and still catch up. Timers
// fire up to a millisecond or two late; without it the rate would fall short by
// that much a chunk.
const slack = 20 * time.Millisecond

// Chunk returns how many bytes to send at a time: about 5 ms of the rate, so that
// a reader sees a flow and not bursts. Of a slow one it is up to 100 ms, or thousands
// of slow connections would be a million writes a second.
func (p *Pacer) Chunk() int64 { return min(max(p.Rate/200, min(p.Rate/10, 4<<10), 1), 64<<10) }

// Wait returns when n more bytes may be sent, or with ctx's error.
func (p *Pacer) Wait(ctx context.Context, n int64) error {
	p.mu.Lock()
	now := time.Now()
	if oldest := now.Add(-slack); p.next.Before(oldest) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.Rate) * float64(time.Second)))
	due := p.next
	p.mu.Unlock()
	return Sleep(ctx, time.Until(due))
}

// Sleep is time.Sleep that ends with ctx.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
