// Package hubtest is an origin registry in the test's own process: the fake hub of
// loadtest/hub, which ends with the test and fails it where the hub itself cannot go
// on.
//
//	hub := hubtest.New(t)
//	img := hub.AddImage("library/app", "v1", hub.Layer(8<<20), hub.Layer(300))
//	hub.Fault(hubtest.Blob(img.Layers[0].Digest), hubtest.CutEvery(5<<20))
//	... pull ...
//	hub.Gets(img.Layers[0].Digest), hub.Sent(img.Layers[0].Digest)
//	hub.Heal()
package hubtest

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hostlocal/loadtest/hub"
	"hostlocal/manifest"
)

// A Hub is a fake registry of a test. New starts it and the test's end stops it.
type Hub struct {
	*hub.Hub
	t testing.TB
}

// patience is how long Wait and WaitIdle wait before they fail the test.
const patience = 10 * time.Second

// maxLog bounds the requests that are remembered one by one, to about 100 MB in a
// storm of small ones. The counts go on without bound.
const maxLog = 100_000

// New starts a hub on a loopback port of its own.
func New(t testing.TB, opts ...Option) *Hub {
	t.Helper()
	h, err := hub.Start(append([]Option{hub.Remember(maxLog)}, opts...)...)
	if err != nil {
		t.Fatalf("hubtest: %v", err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("hubtest: closing: %v", err)
		}
	})
	return &Hub{Hub: h, t: t}
}

// CAFile writes the CA's certificate to a file of the test's and returns its
// path. It needs TLS.
func (h *Hub) CAFile() string {
	h.t.Helper()
	path := filepath.Join(h.t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, h.CA(), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// MoveTag makes tag of repo name the manifest d, which the repository has.
func (h *Hub) MoveTag(repo, tag string, d manifest.Digest) {
	h.t.Helper()
	if err := h.Hub.MoveTag(repo, tag, d); err != nil {
		h.t.Errorf("hubtest: %v", err)
	}
}

// Down is hub.Hub's; see there.
func (h *Hub) Down() {
	h.t.Helper()
	if err := h.Hub.Down(); err != nil {
		h.t.Fatalf("hubtest: going down: %v", err)
	}
}

// Up ends Down.
func (h *Hub) Up() {
	h.t.Helper()
	if err := h.Hub.Up(); err != nil {
		h.t.Fatalf("hubtest: listening on %s again: %v", h.Host, err)
	}
}

// Heal removes all faults, lets what stalls go on, and ends Down and Limit. Forbid,
// tags and authentication stay as they are.
func (h *Hub) Heal() {
	h.t.Helper()
	if err := h.Hub.Heal(); err != nil {
		h.t.Fatalf("hubtest: healing: %v", err)
	}
}

// Wait blocks until n requests that m matches have arrived, and fails the test
// after ten seconds. It is the gate to use instead of a sleep.
func (h *Hub) Wait(m Matcher, n int) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if h.Hub.Wait(ctx, m, n) != nil {
		h.t.Fatalf("hubtest: waited in vain for requests to arrive")
	}
}

// WaitIdle blocks until no request is being answered, and fails the test after ten
// seconds: what counts is final then.
func (h *Hub) WaitIdle() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if h.Hub.WaitIdle(ctx) != nil {
		h.t.Fatalf("hubtest: waited in vain for requests to end")
	}
}
