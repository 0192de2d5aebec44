package blobcache

import (
	"os"
	"testing"
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
	h.wantLedgerRight()
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
	h.wantLedgerRight()
}

// TestShelvedFilesAreReplacedAndRemoved: what is published over one, put in quarantine
// or removed is not on the shelf any more.
func TestShelvedFilesAreReplacedAndRemoved(t *testing.T) {
	h := newTester(t, Options{Budget: 32 * mib})
	large, _ := h.left(3, 3200)
	if err := h.Remove(large[0].digest); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(h.blobPath(large[1].digest), mib); err != nil {
		t.Fatal(err)
	}
	for _, o := range large[:2] {
		got, err := h.pull(o)
		h.wantRight(o, got, err)
		h.wantPresent(o)
	}
	h.await("the end of all holds", func() bool { return h.Stats().Pinned == 0 })
	if s := h.Stats(); s.Blobs != 4 || s.Damaged != 1 {
		t.Errorf("%d blobs, %d damaged", s.Blobs, s.Damaged)
	}
	if _, _, n := h.index.sums(); n != 4 || len(h.index.shelf.files) != 2 {
		t.Errorf("%d in the index, %d of them on the shelf", n, len(h.index.shelf.files))
	}
	h.wantLedgerRight()
}
