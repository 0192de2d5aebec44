package s3store

import (
	"slices"
	"sync"
	"time"
)

const (
	// minPatience keeps a bucket on the same host, which answers in a
	// millisecond, from being raced whenever it takes two.
	minPatience = 100 * time.Millisecond
	// maxPatience keeps a bucket that has become slow from setting the pace: at a
	// second the upstream is the better bet, whatever is usual here.
	maxPatience = time.Second
	// windowSize is how many answers are looked back on: enough for a 95th
	// percentile, few enough to forget a bad minute with the next image.
	windowSize = 128
)

// An answerTimes holds the latest times from a request to its answer. The zero value is
// empty.
type answerTimes struct {
	mu    sync.Mutex // guards the rest
	times [windowSize]time.Duration
	n     int // how many were added
	p95   time.Duration
}

// add notes an answer. The percentile is taken anew with each eighth: sorting
// costs more than asking.
func (w *answerTimes) add(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.times[w.n%windowSize] = d
	w.n++
	if w.n%8 == 0 || w.n < 8 {
		t := slices.Clone(w.times[:min(w.n, windowSize)])
		slices.Sort(t)
		w.p95 = t[(len(t)*95-1)/100]
	}
}

func (w *answerTimes) patience() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return min(max(w.p95, minPatience), maxPatience)
}
