package blobcache

import (
	"fmt"
	"io/fs"
	"testing"
)

// unplanned hides that an origin is a Planner.
type unplanned struct{ Source }

// The store plans ranges, several at once, and does not have the blob: it is asked
// once, and the upstream behind it, which plans nothing, gets one request.
func TestMissInStoreIsOneRequestAndLeavesOneForUpstream(t *testing.T) {
	for _, size := range []int64{-1, 24 * mib} {
		t.Run(fmt.Sprint("size ", size), func(t *testing.T) {
			h, up := newTester(t, Options{Budget: 64 * mib}), newOrigin(24*mib, 1)
			store := up.twin("store")
			store.part, store.parallel, store.err = mib, 8, fs.ErrNotExist
			w := h.want(up, 0)
			w.Size, w.Sources = size, []Source{store, unplanned{up}}
			b, err := h.Get(t.Context(), up.digest, w)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if err := b.CopyRange(t.Context(), &comparer{want: up.bytes}, 0, -1); err != nil {
				t.Fatal(err)
			}
			if s, u := store.opens.Load(), up.opens.Load(); s != 1 || u != 1 {
				t.Errorf("the store was asked %d times and the upstream %d times, want once each", s, u)
			}
		})
	}
}

// Nobody said how long the blob is: its first part does, and the rest comes as the
// store plans it.
func TestBlobOfUnknownSizeComesInRanges(t *testing.T) {
	h, o := newTester(t, Options{Budget: 64 * mib}), newOrigin(24*mib, 2)
	o.part, o.parallel = 2*mib, 4
	w := h.want(o, 0)
	w.Size = -1
	b, err := h.Get(t.Context(), o.digest, w)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.CopyRange(t.Context(), &comparer{want: o.bytes}, 0, -1); err != nil {
		t.Fatal(err)
	}
	if n := o.opens.Load(); n != 12 {
		t.Errorf("%d requests for 24 MiB, want one for each 2 MiB", n)
	}
	if n := o.sent.Load(); n != 24*mib {
		t.Errorf("%d bytes were sent for 24 MiB", n)
	}
}
