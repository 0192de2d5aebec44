package notify

import (
	"sync"
	"time"

	"hostlocal/manifest"
)

const (
	// pullWindow is within what time pulls of the same manifest are one event: the
	// pods of a deploy come within seconds, and what listens wants to know that an
	// image is in use, not by how many connections.
	pullWindow = time.Second

	// maxPulls bounds the events of pulls in a window: what one connection delivers
	// at 50 ms a request. Those beyond it are counted and not told.
	maxPulls = 20
)

// pulled is what was pulled, and by what name.
type pulled struct {
	repo, tag string
	digest    manifest.Digest
}

// A window bounds the events of pulls. The envelope of the stock registry has no
// count, and one that carried it would be read as one pull by what does not know it;
// so a pull is an event or it is not, and the metrics count the latter.
type window struct {
	mu    sync.Mutex // guards what follows
	begun time.Time
	seen  map[pulled]struct{} // at most maxPulls
}

// admit returns why a pull is not an event, or "" if it is one.
func (w *window) admit(p pulled, now time.Time) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen == nil || now.Sub(w.begun) >= pullWindow {
		if w.seen == nil {
			w.seen = make(map[pulled]struct{}, maxPulls)
		}
		clear(w.seen)
		w.begun = now
	}
	if _, ok := w.seen[p]; ok {
		return Merged
	}
	if len(w.seen) >= maxPulls {
		return Limited
	}
	w.seen[p] = struct{}{}
	return ""
}
