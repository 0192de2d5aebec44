package blobcache

import (
	"os"
	"testing"
)

// TestPinSurvivesDamage: a pinned file rots, goes, and comes again. What keeps it
// then is the pin alone, and no longer than the last of them lasts.
func TestPinSurvivesDamage(t *testing.T) {
	h := newTester(t, Options{Budget: 16 * mib})
	o := newOrigin(4*mib, 340)
	pull := func(o *origin) {
		t.Helper()
		got, err := h.pull(o)
		h.wantRight(o, got, err)
		h.wantPresent(o)
	}
	pull(o)
	unpin, ok := h.Pin(o.digest)
	again, okAgain := h.Pin(o.digest)
	if !ok || !okAgain {
		t.Fatal("cannot pin")
	}
	path := h.blobPath(o.digest)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, 4*mib), 0); err != nil {
		t.Fatal(err)
	}
	pull(o)
	if got := h.Stats(); got.Damaged != 1 || got.Pinned != 4*mib {
		t.Errorf("%d damaged, %d bytes pinned", got.Damaged, got.Pinned)
	}
	flood := func(seed uint64) {
		t.Helper()
		for i := range uint64(8) {
			pull(newOrigin(4*mib, seed+i))
		}
	}
	flood(350)
	unpin()
	flood(360)
	if !h.Has(o.digest) {
		t.Fatal("a pinned blob went")
	}
	again()
	h.await("the end of all holds", func() bool { return h.Stats().Pinned == 0 })
	flood(370)
	flood(380)
	if h.Has(o.digest) {
		t.Error("a blob that nobody holds stayed through two floods")
	}
	h.wantLedgerRight()
}
