package main

import (
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// A client that joins a running fill has what has landed at once, and its coming
// costs nothing. The time is the best of several: it is the daemon's, not that of
// whatever else runs on this machine.
func TestJoiningClientHasWhatLandedAtOnce(t *testing.T) {
	const size, landed, joiners, soon = 8 << 20, 4 << 20, 20, 50 * time.Millisecond
	h := newHost(t)
	image := h.image(size)
	layer := image.Layers[0]
	resume := h.up.holdAfter(layer.Digest, landed)
	h.resolve(image.Name())

	first := h.open(image.Repo, layer.Digest)
	defer first.Close()
	check(t, first.want(layer.Slice(0, landed-1<<20)))

	best := time.Hour
	joined := []*stream{first}
	for range joiners {
		s := h.open(image.Repo, layer.Digest)
		defer s.Close()
		check(t, s.want(layer.Slice(0, 1)))
		best = min(best, time.Since(s.started))
		joined = append(joined, s)
	}
	if best > soon {
		t.Errorf("the first byte came after %v at best, want %v", best, soon)
	}
	var all errgroup.Group
	for _, s := range joined {
		all.Go(func() error { return s.want(layer.Slice(s.n, landed-1<<20-s.n)) })
	}
	check(t, all.Wait())
	if n := h.up.Gets(layer.Digest); n != 1 {
		t.Errorf("the upstream had %d requests while clients joined", n)
	}
	resume()
	for _, s := range joined {
		all.Go(func() error { return s.rest(layer) })
	}
	check(t, all.Wait())
	h.wantOneFetch(layer)
	h.wantHit(image, layer.Digest)
}

func TestFirstClientLeavingDisturbsNobody(t *testing.T) {
	t.Parallel()
	const size, landed = 8 << 20, 2 << 20
	h := newHost(t)
	image := h.image(size)
	layer := image.Layers[0]
	resume := h.up.holdAfter(layer.Digest, landed)
	h.resolve(image.Name())

	first := h.open(image.Repo, layer.Digest)
	check(t, first.want(layer.Slice(0, 64<<10)))
	second := h.open(image.Repo, layer.Digest)
	defer second.Close()
	check(t, second.want(layer.Slice(0, 64<<10)))
	first.Close()
	resume()
	check(t, second.rest(layer))
	h.wantOneFetch(layer)
}

func TestFillGoesOnAlone(t *testing.T) {
	t.Parallel()
	const size, landed = 8 << 20, 2 << 20
	h := newHost(t)
	image := h.image(size)
	layer := image.Layers[0]
	resume := h.up.holdAfter(layer.Digest, landed)
	h.resolve(image.Name())

	only := h.open(image.Repo, layer.Digest)
	check(t, only.want(layer.Slice(0, 64<<10)))
	only.Close()
	h.await("the daemon to see that the client left", func() bool {
		return h.counted("registryd_requests_total", `route="blob"`) > 0
	})
	resume()
	h.awaitKept(layer.Digest)
	h.wantOneFetch(layer)
	h.wantHit(image, layer.Digest)
}

// A client on a thin line reads 64 KiB a second while others pull the same blob
// whole. It has its bytes too, in the end.
func TestSlowClientSlowsNobody(t *testing.T) {
	t.Parallel()
	const size, others = 16 << 20, 4
	h := newHost(t)
	image := h.image(size)
	layer := image.Layers[0]
	h.resolve(image.Name())

	c := docker(h.url).smallWindow()
	slow, err := c.open(t.Context(), image.Repo, layer.Digest, "")
	check(t, err)
	defer slow.Close()
	check(t, slow.want(layer.Slice(0, 8<<10)))

	done := make(chan error, 1)
	go func() {
		var all errgroup.Group
		for range others {
			all.Go(func() error {
				_, err := docker(h.url).blob(t.Context(), image.Repo, layer.Digest)
				return err
			})
		}
		done <- all.Wait()
	}()
	tick := time.NewTicker(125 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		select {
		case err := <-done:
			check(t, err)
			running = false
		case <-tick.C:
			check(t, slow.want(layer.Slice(slow.n, 8<<10)))
		}
	}
	if slow.n > size/2 {
		t.Fatalf("the slow client had %d of %d bytes when the others were done: it was not slow", slow.n, size)
	}
	h.awaitKept(layer.Digest)
	check(t, slow.rest(layer))
	h.wantOneFetch(layer)
}
