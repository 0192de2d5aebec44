package blobcache

import (
	"context"
	"errors"
	"sync"
)

// errBusy says that too many blobs pass through at once.
var errBusy = errors.New("too many blobs pass through without the cache")

// windows is the memory that all passes share.
type windows struct {
	mu    sync.Mutex // guards the fields below
	free  int64
	freed chan struct{} // closed and replaced when memory comes back
}

// take returns n bytes of the memory, or what there is if that is enough for a
// window. reclaim gives back some that is not needed much, if there is any; beyond
// that take waits for a while.
func (w *windows) take(ctx context.Context, n int64, reclaim func() bool) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, windowWait)
	defer cancel()
	for {
		w.mu.Lock()
		if got := min(n, w.free); got >= min(n, windowMin) {
			w.free -= got
			w.mu.Unlock()
			return got, nil
		}
		freed := w.freed
		w.mu.Unlock()
		if reclaim() {
			continue
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return 0, errBusy
		}
	}
}

func (w *windows) give(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free += n
	close(w.freed)
	w.freed = make(chan struct{})
}
