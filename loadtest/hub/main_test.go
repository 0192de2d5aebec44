package hub

import (
	"context"
	"testing"
	"time"
)

// tester is a Hub that ends with its test and fails it.
type tester struct {
	*Hub
	t testing.TB
}

// start is Start for a test, which sees what was asked.
func start(t testing.TB, opts ...Option) *tester {
	t.Helper()
	h, err := Start(append([]Option{Remember(1000)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return &tester{h, t}
}

func (h *tester) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// heal removes what the test injected.
func (h *tester) heal() { h.t.Helper(); h.must(h.Heal()) }

// arrived waits until n requests that m matches are there.
func (h *tester) arrived(m Matcher, n int) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Second)
	defer cancel()
	h.must(h.Wait(ctx, m, n))
}

// idle waits until no request is being answered.
func (h *tester) idle() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Second)
	defer cancel()
	h.must(h.WaitIdle(ctx))
}
