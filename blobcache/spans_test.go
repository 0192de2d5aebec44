package blobcache

import (
	"math/rand/v2"
	"testing"
)

// TestSpansAgreeWithABitmap holds the set against the plainest model there is.
func TestSpansAgreeWithABitmap(t *testing.T) {
	const n = 200
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var s spans
		var bits [n]bool
		for range 40 {
			off := rnd.Int64N(n)
			end := min(n, off+rnd.Int64N(20))
			s.add(off, end)
			for i := off; i < end; i++ {
				bits[i] = true
			}
			check(t, seed, s, bits[:])
		}
	}
}

func check(t *testing.T, seed uint64, s spans, bits []bool) {
	t.Helper()
	var sum int64
	for off := range int64(len(bits)) {
		until := off
		for until < int64(len(bits)) && bits[until] {
			until++
		}
		if got := s.until(off); got != until {
			t.Fatalf("seed %d: until(%d) = %d, want %d in %v", seed, off, got, until, s)
		}
		gap := span{until, until}
		for gap.end < int64(len(bits)) && !bits[gap.end] {
			gap.end++
		}
		if got := s.gap(off, int64(len(bits))); got != gap {
			t.Fatalf("seed %d: gap(%d) = %v, want %v in %v", seed, off, got, gap, s)
		}
		if bits[off] {
			sum++
		}
	}
	if s.sum() != sum {
		t.Fatalf("seed %d: sum %d, want %d", seed, s.sum(), sum)
	}
	for i := 1; i < len(s); i++ {
		if s[i].off <= s[i-1].end {
			t.Fatalf("seed %d: %v overlap or touch", seed, s)
		}
	}
}
