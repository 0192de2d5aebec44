package registryd

import (
	"context"
	"math"
	"time"
)

const (
	// uploadExpiry is how long an upload waits for its next byte before it is removed.
	// A client that goes on after a break does so within minutes, a person by the next
	// morning.
	uploadExpiry = 24 * time.Hour

	// expireEvery is how often it is looked: a scan of one folder.
	expireEvery = 10 * time.Minute
)

// expireUploads removes uploads that nobody goes on with, until the registry ends. What
// their last attempts left in the bucket is the writer's to remove.
func (g *Registry) expireUploads() {
	idle, every := uploadExpiry, expireEvery
	if d := g.options.UploadExpiry; d > 0 {
		idle, every = d, min(every, d)
	}
	g.bg.run(math.MaxInt64, func(ctx context.Context) {
		again := time.NewTicker(every)
		defer again.Stop()
		for {
			if n := g.spool.ExpireUploads(idle, time.Now()); n > 0 {
				g.log.Info("uploads that nobody went on with were removed", "uploads", n, "idle", idle)
			}
			select {
			case <-again.C:
			case <-ctx.Done():
				return
			}
		}
	})
}
