package blobcache

import (
	"bytes"
	"io"
	"os"
	"testing"
)

// wantAccountsRight checks, when nothing is under way, that the ledger has exactly
// what the folder takes, nothing promised, and as much that cannot be evicted as
// before.
func (h *tester) wantAccountsRight(what string, fixed int64) {
	h.Helper()
	h.await("the fills' end", func() bool { return len(h.Stats().Fills) == 0 })
	h.wantLedgerRight()
	_, now, promised := h.ledger.sums()
	if now != fixed || promised != 0 {
		h.Errorf("%s: %d bytes fixed, %d before; %d promised", what, now, fixed, promised)
	}
}

// TestFailedFillsGiveBackWhatTheyTook ends fills in every way there is.
func TestFailedFillsGiveBackWhatTheyTook(t *testing.T) {
	const n = 3 * mib
	for name, fault := range map[string]func(*origin){
		"mismatch":             func(o *origin) { o.wrong = mib },
		"stall":                func(o *origin) { o.stall = 2 * mib },
		"stall at once":        func(o *origin) { o.stall = 0 },
		"no answer":            func(o *origin) { o.err = os.ErrPermission },
		"cut to pieces":        func(o *origin) { o.cut = 1000 },
		"another size":         func(o *origin) { o.size = n + mib },
		"smaller than it is":   func(o *origin) { o.size = mib },
		"far too large":        func(o *origin) { o.size = 1 << 50 },
		"no size, wrong":       func(o *origin) { o.noSize, o.wrong = true, mib },
		"no ranges, and wrong": func(o *origin) { o.noRange, o.wrong = true, n-1 },
	} {
		t.Run(name, func(t *testing.T) {
			h := newTester(t, Options{Budget: 64 * mib})
			o := newOrigin(n, 3000)
			got, err := h.pull(o)
			h.wantRight(o, got, err)
			h.wantPresent(o)
			h.awaitScan()
			if err := h.Remove(o.digest); err != nil { // the shard stays, and counts the same before and after
				t.Fatal(err)
			}
			h.await("the fill's end", func() bool { return len(h.Stats().Fills) == 0 })
			_, fixed, _ := h.ledger.sums()
			o.with(fault)
			for range 2 {
				h.pull(o)
			}
			h.wantAccountsRight(name, fixed)
			o.with(func(o *origin) {
				o.wrong, o.stall, o.err, o.cut, o.size, o.noSize, o.noRange = -1, -1, nil, 0, 0, false, false
			})
			got, err = h.pull(o)
			h.wantRight(o, got, err)
			h.wantPresent(o)
			h.wantAccountsRight(name+", and healed", fixed)
		})
	}
}

// TestRoomOfADiscardedFileIsOwedUntilItsReadersLeave: a name that is gone frees
// nothing as long as somebody reads.
func TestRoomOfADiscardedFileIsOwedUntilItsReadersLeave(t *testing.T) {
	h, o := newTester(t, Options{Budget: 64 * mib}), newOrigin(6*mib, 3010)
	h.awaitScan()
	_, fixed, _ := h.ledger.sums()
	gate := make(chan struct{})
	o.noSize = true
	o.pace = func(off int64) {
		if off >= 5*mib {
			<-gate
		}
	}
	w := h.want(o, 0)
	w.Size = -1
	b, err := h.Get(t.Context(), o.digest, w)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.CopyRange(t.Context(), io.Discard, 0, 4*mib); err != nil {
		t.Fatal(err)
	}
	// As if the disk had failed under a write.
	b.fill.mu.Lock()
	taken := b.fill.taken
	b.fill.fatal = errStorage
	b.fill.mu.Unlock()
	b.fill.poke()
	close(gate)
	h.await("the fill's end", func() bool { return len(h.Stats().Fills) == 0 })
	if _, now, _ := h.ledger.sums(); now != fixed+taken {
		t.Errorf("with a reader left %d bytes are counted, want %d", now-fixed, taken)
	}
	b.Close()
	h.wantAccountsRight("closed", fixed)
}

// TestWrongBytesGoFromUnderTheirReaders: a slow client's connection breaks now, and
// what it read from takes no room.
func TestWrongBytesGoFromUnderTheirReaders(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(8*mib, 3020)
	o.wrong = 100
	gate, done := make(chan struct{}), make(chan error, 1)
	b, err := h.Get(t.Context(), o.digest, h.want(o, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var out bytes.Buffer
	go func() { done <- b.CopyRange(t.Context(), gated{&out, gate, nil}, 0, -1) }()
	h.wantResult("upstream mismatch")
	fi, err := b.file.Stat()
	if err != nil || fi.Size() != 0 {
		t.Errorf("%d wrong bytes are still held: %v", fi.Size(), err)
	}
	close(gate)
	if err := <-done; err == nil || out.Len() > mib {
		t.Errorf("the slow one had %d bytes, %v", out.Len(), err)
	}
}

// TestPutOverAFileThatIsGoneCountsOnce: the scan met the file, somebody removed it.
func TestPutOverAFileThatIsGoneCountsOnce(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(2*mib, 3030)
	if err := h.Put(o.digest, bytes.NewReader(o.bytes), -1); err != nil {
		t.Fatal(err)
	}
	h.restart()
	h.awaitScan()
	if err := os.Remove(h.blobPath(o.digest)); err != nil {
		t.Fatal(err)
	}
	if err := h.Put(o.digest, bytes.NewReader(o.bytes), -1); err != nil {
		t.Fatal(err)
	}
	h.wantLedgerRight()
}

// TestScrubLetsGoOfAnEvictedFile: its room would not be free before the scrub had
// read it to its end.
func TestScrubLetsGoOfAnEvictedFile(t *testing.T) {
	h, o := newTester(t, Options{ScrubRate: 1 << 20}), newOrigin(24*mib, 3040) // 24 s
	got, err := h.pull(o)
	h.wantRight(o, got, err)
	h.wantPresent(o)
	done := make(chan error, 1)
	before := h.stats.scrubbed.Load()
	go func() { done <- h.scrubOne(o.digest) }()
	h.await("the scrub", func() bool { return h.stats.scrubbed.Load() > before })
	if err := h.Remove(o.digest); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || h.stats.scrubbed.Load() >= before+24*mib {
		t.Errorf("the scrub read %d bytes, %v", h.stats.scrubbed.Load()-before, err)
	}
}

// TestStaleOpenDoesNotQuarantineTheHealedFile: two had the damaged file open, and the
// second finds out when the first has healed it.
func TestStaleOpenDoesNotQuarantineTheHealedFile(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(mib, 3050)
	got, err := h.pull(o)
	h.wantRight(o, got, err)
	h.wantPresent(o)
	h.wantResult("upstream ok") // the fill has ended, and nobody joins it
	path := h.blobPath(o.digest)
	if err := truncateSealed(path, 1000); err != nil {
		t.Fatal(err)
	}
	stale, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer stale.Close()
	got, err = h.pull(o)
	h.wantRight(o, got, err)
	h.wantPresent(o)
	if _, err := h.checkUnsealed(o.digest, stale, path); err == nil {
		t.Error("a truncated file is right")
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the healed file went: %v", err)
	}
	if n := h.Stats().Damaged; n != 1 {
		t.Errorf("%d damaged files counted", n)
	}
}
