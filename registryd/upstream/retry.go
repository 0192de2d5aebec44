package upstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	// tries bounds how often one thing is asked for: an origin that fails three
	// times within seconds has trouble that more of us would add to.
	tries = 3
	// retryWindow is how long after the first try another one may begin. What
	// waits is a client; the next source, or an old tag, serves it better.
	retryWindow = 4 * time.Second
)

// backoff is the pause before try number n (from 1 on), jittered so that a fleet
// does not come back at the same moment. A 429 without Retry-After asks for
// restraint that a 503 does not.
func backoff(n int, status int) time.Duration {
	d := 100 * time.Millisecond << n / 2
	if status == http.StatusTooManyRequests {
		d *= 4
	}
	return d/2 + rand.N(d)
}

// retry calls f until it succeeds, says no, or the bounds are met. It does not
// begin a pause that ctx would cut short.
func retry(ctx context.Context, f func() error) error {
	start := time.Now()
	for n := 1; ; n++ {
		err := f()
		if err == nil || n == tries || !again(err) || ctx.Err() != nil {
			return err
		}
		var e *Error
		errors.As(err, &e)
		pause := backoff(n, e.Status)
		if e.RetryAfter > 0 {
			pause = e.RetryAfter
		}
		end := time.Now().Add(pause)
		if deadline, ok := ctx.Deadline(); end.Sub(start) > retryWindow || ok && end.After(deadline) {
			return err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}
