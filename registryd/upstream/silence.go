package upstream

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// maxSilent bounds the blobs that are being opened and have not had a first word
	// for openingPatience. Whoever reads blobs has a bound on how many at once, for
	// all upstreams together, 64 in blobcache: one that is stalled has all of them
	// for that long, and then no more than a quarter.
	maxSilent = 16

	// openingPatience is more than an origin takes that is well: two round trips for
	// a token, one for the redirect and one to where it leads.
	openingPatience = 2 * time.Second

	// busyRetry is when who was turned away may fare better: openings are given up
	// after openTimeout.
	busyRetry = 2 * time.Second
)

// errBusy is why a blob is not opened, or not waited for.
var errBusy = errors.New("too many blobs are waiting for a first word of it; try again in a moment")

// silences counts the openings that are silent.
type silences struct {
	mu sync.Mutex // guards n and the openings' fields
	n  int
}

// An opening is one blob that is being opened.
type opening struct {
	of      *silences
	cancel  context.CancelCauseFunc // ends it
	timer   *time.Timer
	counted bool // among the silent
	ended   bool
}

// begin begins an opening, which the caller ends. It is cancelled, because of
// errBusy, when it has been silent for a while and so have too many others. ok is
// false if so many are already.
func (s *silences) begin(cancel context.CancelCauseFunc) (o *opening, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n >= maxSilent {
		return nil, false
	}
	o = &opening{of: s, cancel: cancel}
	o.timer = time.AfterFunc(openingPatience, o.silent)
	return o, true
}

// silent is called when the patience is over.
func (o *opening) silent() {
	o.of.mu.Lock()
	defer o.of.mu.Unlock()
	switch {
	case o.ended:
	case o.of.n >= maxSilent:
		o.cancel(errBusy)
	default:
		o.of.n++
		o.counted = true
	}
}

// end ends the opening: the origin has said something, or been given up.
func (o *opening) end() {
	o.timer.Stop()
	o.of.mu.Lock()
	defer o.of.mu.Unlock()
	if o.counted {
		o.of.n--
	}
	o.ended, o.counted = true, false
}
