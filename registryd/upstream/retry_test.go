package upstream

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestPausesAreShortAndNotBegunInVain(t *testing.T) {
	for name, c := range map[string]struct {
		status   int
		after    time.Duration
		deadline time.Duration // 0: none
		tries    int
		atMost   time.Duration
	}{
		"unavailable":          {status: 503, tries: 3, atMost: time.Second},
		"too many":             {status: 429, tries: 3, atMost: 2 * time.Second},
		"told to wait":         {status: 503, after: time.Second, tries: 3, atMost: 2 * time.Second},
		"told to wait longer":  {status: 429, after: 3 * time.Second, tries: 2, atMost: 3 * time.Second},
		"told to wait an hour": {status: 429, after: time.Hour, tries: 1},
		"too late for it":      {status: 429, after: time.Second, deadline: 900 * time.Millisecond, tries: 1},
		"no":                   {status: 404, tries: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if c.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.deadline)
					defer cancel()
				}
				start, tries := time.Now(), 0
				err := retry(ctx, func() error {
					tries++
					return &Error{Status: c.status, RetryAfter: c.after}
				})
				if took := time.Since(start); err == nil || tries != c.tries || took > c.atMost {
					t.Errorf("%d tries in %v, %v", tries, took, err)
				}
			})
		})
	}
}
