package s3store

import (
	"context"

	"golang.org/x/sync/semaphore"
)

const (
	// maxWrites bounds the bodies that are sent at once. Each takes some 200 KiB of
	// buffers.
	maxWrites = 20
	// keptForWhole of them are for bodies of up to maxSinglePut, which are sent in one
	// piece: small blobs do not wait for the parts of many large ones. Those have 16 at
	// once, which bring 1.3 GB/s, and are twice what one blob sends: so a large one leaves
	// as much to the others.
	keptForWhole = 4
)

// writes are the turns of those who send bodies, in the order of their coming. Parts have a
// queue of their own, out of which no more come into the common one than may be sent at
// once: so whoever waits there waits for bodies that are as small.
type writes struct{ all, parts *semaphore.Weighted }

func newWrites() *writes {
	return &writes{all: semaphore.NewWeighted(maxWrites), parts: semaphore.NewWeighted(maxWrites - keptForWhole)}
}

// take waits for the turn of a body of size bytes. done ends it.
func (w *writes) take(ctx context.Context, size int64) (done func(), err error) {
	if size <= maxSinglePut {
		if err := w.all.Acquire(ctx, 1); err != nil {
			return nil, err
		}
		return func() { w.all.Release(1) }, nil
	}
	if err := w.parts.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	if err := w.all.Acquire(ctx, 1); err != nil {
		w.parts.Release(1)
		return nil, err
	}
	return func() { w.all.Release(1); w.parts.Release(1) }, nil
}
