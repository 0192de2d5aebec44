package blobcache

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"hostlocal/manifest"
)

// What the index may cost for each blob, in bytes of live heap.
const (
	// perEntry is for one that was looked at. The library's queue alone takes some 85:
	// 64 for its link and the rest in its map, which is between half and almost full.
	perEntry = 170

	// perShelved is for one that nobody has looked at since the start.
	perShelved = 26
)

func TestIndexOfManyBlobsIsSmall(t *testing.T) {
	const n = 200_000
	now := time.Unix(1_700_000_000, 0)
	for name, c := range map[string]struct {
		enter func(*index, manifest.Digest)
		most  float64
	}{
		"looked at": {func(x *index, d manifest.Digest) { x.adopt(d, 300, block, now) }, perEntry},
		"found":     {func(x *index, d manifest.Digest) { x.found(d, 300, block) }, perShelved},
	} {
		t.Run(name, func(t *testing.T) {
			before := liveHeap()
			x := newIndex()
			for i := range n {
				sum := sha256.Sum256(binary.AppendUvarint(nil, uint64(i)))
				c.enter(x, manifest.MustDigest("sha256:"+hex.EncodeToString(sum[:])))
			}
			got := float64(liveHeap()-before) / n
			t.Logf("%.0f bytes a blob", got)
			if _, _, count := x.sums(); got > c.most || count != n {
				t.Errorf("%d of %d blobs in the index, at %.0f bytes each, want at most %.0f", count, n, got, c.most)
			}
		})
	}
}

// liveHeap is what is reachable, in bytes.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // what the first had still to sweep
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestDigestsThatBeginAlikeAreToldApart: the first bits of a digest can be chosen by
// who has time, and a sha512 can begin like a sha256. Each has its own bytes in the
// budget, is found, goes once, and none takes another with it.
func TestDigestsThatBeginAlikeAreToldApart(t *testing.T) {
	start := strings.Repeat("0a", 8)
	digests := []manifest.Digest{
		manifest.MustDigest("sha256:" + start + strings.Repeat("01", 24)),
		manifest.MustDigest("sha256:" + start + strings.Repeat("02", 24)),
		manifest.MustDigest("sha512:" + start + strings.Repeat("01", 56)),
		manifest.MustDigest("sha512:" + start + strings.Repeat("01", 24) + strings.Repeat("02", 32)),
	}
	for first := range digests {
		t.Run(fmt.Sprint("without number ", first), func(t *testing.T) {
			x, now := newIndex(), time.Now()
			for i, d := range digests {
				x.adopt(d, 300, int64(i+1)*block, now)
				x.adopt(d, 300, int64(i+1)*block, now) // again: it is known
			}
			if present, _, n := x.sums(); present != 10*block || n != len(digests) {
				t.Fatalf("%d entries of %d bytes", n, present)
			}
			if freed := x.forget(digests[first]); freed != int64(first+1)*block {
				t.Errorf("%s gave %d bytes", digests[first], freed)
			}
			left := map[manifest.Digest]bool{}
			for i, d := range digests {
				if x.knows(d) == (i == first) {
					t.Errorf("%s: known: %v", d, x.knows(d))
				}
				left[d] = i != first
			}
			for range len(digests) - 1 {
				_, d, e := x.victim(block)
				if e == nil || !left[d] || x.knows(d) {
					t.Fatalf("%s was to go, and is known: %v", d, x.knows(d))
				}
				left[d] = false
			}
			if present, _, n := x.sums(); present != 0 || n != 0 {
				t.Errorf("%d entries of %d bytes are left", n, present)
			}
		})
	}
}
