package registryd

import (
	"errors"
	"io/fs"
	"time"
)

const (
	// retryFirst and retryMost bound the pause before the next attempt, which
	// doubles: a bucket that comes back is written to within retryMost.
	retryFirst = time.Second
	retryMost  = time.Minute

	// pauseAfter failures without a success between them, nothing is written until
	// a pause of the same length is over: a bucket that is down is not asked once
	// for each write that waits.
	pauseAfter = 3
)

// fail has a write that failed come again. The caller holds mu.
func (w *writer) fail(j *job, err error) {
	if w.trouble == nil && !reported(err) {
		w.log.Warn("bucket does not take what was pulled; trying again later", "repository", j.Repo, "digest", j.Digest, "err", err)
	}
	w.failed++
	w.trouble, j.again = err, false // it comes again with all its tags
	w.postpone(j)
	w.rest()
}

// postpone has a job come again later. It is all that becomes of a removal that failed: a
// bucket that does not let anything be removed takes what is pulled all the same. The
// caller holds mu.
func (w *writer) postpone(j *job) {
	j.due = time.Now().Add(pause(j.attempts))
	j.attempts++
	w.queue = append(w.queue, j)
}

// succeeded notes that the bucket took something, which says that it is well to
// those who read, too. What failed while it was down need not wait for its turn:
// that was not its own fault. The caller holds mu.
func (w *writer) succeeded() {
	if w.streak >= pauseAfter || w.refusal.on {
		for _, j := range w.queue {
			if !j.abandon {
				j.due = time.Time{}
			}
		}
	}
	w.trouble, w.streak, w.paused, w.refusal = nil, 0, time.Time{}, refusal{}
	w.answered()
}

// rest notes a failure, and has nothing be written for a while if there were too
// many. Writes that fail together count once beyond that: they say together that
// the bucket is down, not that it has been for long. The caller holds mu.
func (w *writer) rest() {
	if time.Now().Before(w.paused) {
		return
	}
	if w.streak++; w.streak >= pauseAfter {
		w.paused = time.Now().Add(pause(w.streak - pauseAfter))
	}
}

// reported reports whether the store says in its own words, once, what err says.
func reported(err error) bool {
	var passing interface{ Temporary() bool }
	return errors.Is(err, fs.ErrPermission) || errors.As(err, &passing) && passing.Temporary()
}

// pause is how long to wait after so many failures before.
func pause(failures int) time.Duration { return min(retryFirst<<min(failures, 10), retryMost) }
