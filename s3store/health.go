package s3store

import (
	"errors"
	"io/fs"
	"net/http"
	"sync"
	"time"
)

const (
	// maxFailures in a row open the circuit: one or two happen in any bucket's day,
	// five without an answer between them are an outage.
	maxFailures = 5
	// rest is how long the bucket is then left alone before it is looked at again.
	// Until it answers, calls fail at once, and pulls cost no waiting.
	rest = 5 * time.Second
	// newsAfter is how long the bucket must have answered before the next outage
	// is told: one that is only slow goes in and out with each image.
	newsAfter = time.Minute
)

// health is the circuit breaker. The zero value is closed: calls pass.
type health struct {
	mu       sync.Mutex // guards the rest; no I/O under it
	open     bool
	failures int   // in a row
	err      error // the last failure
	at       time.Time
	since    time.Time // of the first failure in the row
	answered time.Time // the last answer of any kind
	told     bool      // people know of the outage that goes on
	over     time.Time // the end of the last outage
}

// allow returns the error for a call that must not be made.
func (h *health) allow() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open {
		return unavailable{h.err}
	}
	return nil
}

// unavailable is ErrUnavailable with what led to it. The cause can be read but
// not matched: it is not what happened to this call.
type unavailable struct{ cause error }

func (u unavailable) Error() string        { return ErrUnavailable.Error() + ": " + u.cause.Error() }
func (u unavailable) Is(target error) bool { return target == ErrUnavailable }
func (u unavailable) Temporary() bool      { return true }

// answer notes that the bucket spoke, and reports whether that is news: people were
// told that it had been given up.
func (h *health) answer() (news bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.open {
		news, h.over = h.told, now
	}
	h.open, h.told, h.failures, h.answered = false, false, 0, now
	return news
}

// fail notes a failure, and reports whether it is the one that opens the circuit:
// its caller then sees to it that somebody looks again, and that people are told if
// it is news.
func (h *health) fail(err error) (opened, news bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.failures == 0 {
		h.since = now
	}
	h.failures++
	h.err, h.at = err, now
	if h.open || h.failures < maxFailures {
		return false, false
	}
	h.open, h.told = true, now.Sub(h.over) >= newsAfter
	return true, h.told
}

// outage tells a bucket that could not be asked, or was in no state to answer,
// from one that answered something unwelcome.
func outage(err error) bool {
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrPrecondition) {
		return false
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return true
	}
	return e.Status < 300 || e.Status == http.StatusTooManyRequests ||
		e.Status >= 500 && e.Status != http.StatusNotImplemented && e.Status != http.StatusInsufficientStorage
}
