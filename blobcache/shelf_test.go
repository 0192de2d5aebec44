package blobcache

import (
	"os"
	"testing"
	"time"
)

// left fills the cache with n large blobs and a small one, and restarts it: nobody has
// looked at any of them since.
func (h *tester) left(n int, seed uint64) (large []*origin, small *origin) {
	h.Helper()
	small = newOrigin(5000, seed)
	all := []*origin{small}
	for i := range n {
		all = append(all, newOrigin(4*mib, seed+1+uint64(i)))
	}
	for _, o := range all {
		got, err := h.pull(o)
		h.wantRight(o, got, err)
		h.wantPresent(o)
	}
	h.restart()
	h.awaitScan()
	return all[1:], small
}

// wantLedgerRightSoon is wantLedgerRight once the last fill has let go of what it took.
func (h *tester) wantLedgerRightSoon() {
	h.Helper()
	h.await("the end of all holds", func() bool { return h.Stats().Pinned == 0 })
	h.wantLedgerRight()
}

// here returns which of the blobs lie on the disk.
func (h *tester) here(blobs []*origin) (here []*origin) {
	for _, o := range blobs {
		if _, err := os.Lstat(h.blobPath(o.digest)); err == nil {
			here = append(here, o)
		}
	}
	return here
}

// TestFilesThatNobodyAskedForGoFirst: of what an earlier process left, one blob is
// looked at. The next blobs push out all large ones but that, one for one, and the
// small one stays.
func TestFilesThatNobodyAskedForGoFirst(t *testing.T) {
	h := newTester(t, Options{Budget: 32 * mib})
	large, small := h.left(7, 3000)
	looked := large[3]
	got, err := h.pull(looked)
	h.wantRight(looked, got, err)
	for i := range 6 {
		o := newOrigin(4*mib, 3010+uint64(i))
		got, err := h.pull(o)
		h.wantRight(o, got, err)
		h.wantPresent(o)
		if left := len(h.here(large)); left != 6-i {
			t.Errorf("%d of 7 are left after %d others came", left, i+1)
		}
	}
	if !h.Has(looked.digest) || !h.Has(small.digest) {
		t.Errorf("looked at: there %v; small: there %v", h.Has(looked.digest), h.Has(small.digest))
	}
	h.wantLedgerRightSoon()
}

// TestShelvedFilesRemovedByHandAreFoundMissing: nobody would notice before their room
// is needed. Then it is there, and nothing that is there still goes for it.
func TestShelvedFilesRemovedByHandAreFoundMissing(t *testing.T) {
	h := newTester(t, Options{Budget: 32 * mib})
	large, small := h.left(7, 3100)
	for _, o := range large[1:] {
		if err := os.Remove(h.blobPath(o.digest)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := h.pull(large[0])
	h.wantRight(large[0], got, err)
	for i := range 5 {
		o := newOrigin(4*mib, 3110+uint64(i))
		got, err := h.pull(o)
		h.wantRight(o, got, err)
		h.wantPresent(o)
	}
	if !h.Has(large[0].digest) || !h.Has(small.digest) || h.Stats().Evicted != 0 {
		t.Errorf("%d bytes evicted", h.Stats().Evicted)
	}
	h.wantLedgerRightSoon()
}

// TestShelvedFilesAreReplacedAndRemoved: what is published over one, put in quarantine
// or removed is not on the shelf any more.
func TestShelvedFilesAreReplacedAndRemoved(t *testing.T) {
	h := newTester(t, Options{Budget: 32 * mib})
	large, _ := h.left(3, 3200)
	if err := h.Remove(large[0].digest); err != nil {
		t.Fatal(err)
	}
	h.wantLedgerRightSoon()
	if err := os.Truncate(h.blobPath(large[1].digest), mib); err != nil {
		t.Fatal(err)
	}
	for _, o := range large[:2] {
		got, err := h.pull(o)
		h.wantRight(o, got, err)
		h.wantPresent(o)
	}
	h.wantLedgerRightSoon()
	if s := h.Stats(); s.Blobs != 4 || s.Damaged != 1 {
		t.Errorf("%d blobs, %d damaged", s.Blobs, s.Damaged)
	}
	if _, _, n := h.index.sums(); n != 4 || len(h.index.shelf.files) != 2 {
		t.Errorf("%d in the index, %d of them on the shelf", n, len(h.index.shelf.files))
	}
}

// TestShelfAccounts looks at what the index tells the ledger of a file on the shelf that
// another is published over, while the mark stands in for it and later.
func TestShelfAccounts(t *testing.T) {
	for _, summed := range []bool{false, true} {
		x, o := newIndex(), newOrigin(10, 3300)
		x.found(o.digest, 10, 3*block)
		if summed {
			x.sumScanned()
		}
		e, counted := x.put(o.digest, 10, block, time.Now())
		present, _, n := x.sums()
		if want := map[bool]int64{true: 3 * block}[summed]; counted != want || present != block || n != 1 {
			t.Errorf("summed %v: %d bytes were counted, want %d; %d files of %d bytes", summed, counted, want, n, present)
		}
		if found := x.sumScanned(); !summed && found != 0 {
			t.Errorf("the scan found %d bytes of a file that was replaced", found)
		}
		if freed := x.release(e); freed != 0 {
			t.Errorf("the end of the fill freed %d bytes", freed)
		}
	}
}

// TestSmallFilesOnTheShelfHaveTheirShare: below it the others go first, above it they do.
func TestSmallFilesOnTheShelfHaveTheirShare(t *testing.T) {
	x, large, small := newIndex(), newOrigin(10, 3310), newOrigin(11, 3311)
	x.found(large.digest, smallBlob, smallBlob)
	x.found(small.digest, 11, block)
	for budget, want := range map[int64]victims{smallShare * block: shelvedLarge, smallShare*block - 1: shelvedSmall} {
		if from, _, _ := x.victim(budget); from != want {
			t.Errorf("of a budget of %d: %d, want %d", budget, from, want)
		}
	}
}
