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
	// silent is how long a call must have gone unanswered before its caller's
	// leaving says something about the bucket.
	silent = time.Second
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

// answer notes that the bucket spoke, and reports whether it had been given up.
func (h *health) answer() (back bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	back = h.open
	h.open, h.failures, h.answered = false, 0, time.Now()
	return back
}

// fail notes a failure, and reports whether it is the one that opens the circuit:
// its caller then sees to it that somebody looks again.
func (h *health) fail(err error) (opened bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failures == 0 {
		h.since = time.Now()
	}
	h.failures++
	h.err, h.at = err, time.Now()
	if h.open || h.failures < maxFailures {
		return false
	}
	h.open = true
	return true
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
