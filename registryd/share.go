package registryd

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// maxQuestions bounds what one source is asked at once about tags, manifests
	// and single bytes of blobs: with a tenth of a second an answer 2,500 a
	// second, more than the cold pulls of any host. A question that is not answered
	// costs some 50 KiB, its connection included, for the 5 s until it is given up,
	// so a stalled source holds 13 MiB.
	maxQuestions = 256

	// maxWaiting bounds those who wait for a place, and shareWait how long they do. A
	// burst at a source that is well is over by then; one at a source that is
	// stalled is told so soon, as clients have a hub of their own to turn to.
	maxWaiting = 1024
	shareWait  = time.Second

	// busyRetry is the Retry-After of who found no place.
	busyRetry = 2 * time.Second
)

// A busyError says that a source was not asked because too much is being asked of
// it already. It is an outage, though not one that the source is to blame for.
type busyError struct{ source string }

func (e busyError) Error() string {
	return e.source + " is slow to answer, and as much is being asked of it as it may be; try again in a moment"
}

func busy(err error) bool {
	_, ok := errors.AsType[busyError](err)
	return ok
}

// A share is what may be asked of one source at once. Each has its own, so that one
// that is stalled takes nothing from the others. When it is full those who come wait
// for a moment, in the order of their coming, and when too many wait they do not:
// they get a busyError.
type share struct {
	source  string
	places  *semaphore.Weighted
	waiting atomic.Int64
}

func newShare(source string, places int64) *share {
	return &share{source: source, places: semaphore.NewWeighted(places)}
}

// take returns when there is a place, at the latest after wait. release gives it
// back, and is called once.
func (s *share) take(ctx context.Context, wait time.Duration) (release func(), err error) {
	release = func() { s.places.Release(1) }
	if s.places.TryAcquire(1) {
		return release, nil
	}
	if wait <= 0 {
		return nil, busyError{s.source}
	}
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) > maxWaiting {
		return nil, busyError{s.source}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, busyError{s.source})
	defer cancel()
	if s.places.Acquire(ctx, 1) != nil {
		return nil, context.Cause(ctx)
	}
	return release, nil
}
