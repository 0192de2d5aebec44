package blobcache

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// markOnDisk is what a start after a crash would believe.
func (h *tester) markOnDisk() int64 {
	h.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, markFile))
	if os.IsNotExist(err) {
		return 0 // nothing was taken yet
	}
	if err != nil {
		h.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		h.Fatal(err)
	}
	return n
}

// TestMarkIsRaisedAheadOfNeed: whoever needs room finds the mark raised, and while it
// is being raised goes on as long as it covers what he takes.
func TestMarkIsRaisedAheadOfNeed(t *testing.T) {
	h := newTester(t, Options{})
	h.awaitScan()
	raised := func() {
		t.Helper()
		h.await("the mark", func() bool {
			used, _, _ := h.ledger.sums()
			return h.aheadNow() >= markStep/2 && h.markOnDisk() >= used+markStep/2
		})
	}
	raised()
	h.ledger.raising.Lock() // the disk takes its time
	ahead := h.aheadNow()
	for range 4 {
		if err := h.ledger.take(ahead/4, 0); err != nil {
			t.Fatal(err)
		}
	}
	beyond := make(chan error, 1)
	go func() { beyond <- h.ledger.take(block, 0) }()
	select {
	case err := <-beyond:
		t.Errorf("bytes that the mark does not cover were taken: %v", err)
	default:
	}
	h.ledger.raising.Unlock()
	if err := <-beyond; err != nil {
		t.Fatal(err)
	}
	raised()
	h.ledger.settle(ahead/4*4+block, 0)
}

func (h *tester) aheadNow() int64 {
	h.ledger.mu.Lock()
	defer h.ledger.mu.Unlock()
	return h.ledger.ahead()
}

// TestMarkCoversWhatIsTaken: at no time is less on the disk than has been taken.
func TestMarkCoversWhatIsTaken(t *testing.T) {
	h := newTester(t, Options{})
	h.awaitScan()
	const n = 5 * mib
	for range 100 {
		if err := h.ledger.take(n, 0); err != nil {
			t.Fatal(err)
		}
		used, _, _ := h.ledger.sums()
		if mark := h.markOnDisk(); mark < used {
			t.Fatalf("%d bytes are taken, and the mark says %d", used, mark)
		}
	}
	h.ledger.settle(100*n, 0)
}

// TestFolderWithoutAMarkHasRoomBeforeItIsScanned: a folder that was copied here takes no
// more than its file system has in use. Were it taken for full, what is pulled until
// the scan is done would pass through, or push out what the scan has found.
func TestFolderWithoutAMarkHasRoomBeforeItIsScanned(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, blobsDir), 0o755); err != nil {
		t.Fatal(err)
	}
	l := openLedger(dir, 1<<50, 0) // and no scan
	l.evict = func() (int64, bool) {
		t.Error("room was made")
		return 0, false
	}
	if err := l.promise(mib, 0); err != nil {
		t.Error(err)
	}
	if err := l.take(mib, mib); err != nil {
		t.Error(err)
	}
}

// TestFolderWithoutAMarkIsTakenForFull where it may be: on a file system that has as
// much in use as the budget.
func TestFolderWithoutAMarkIsTakenForFull(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, blobsDir), 0o755); err != nil {
		t.Fatal(err)
	}
	inUse := openLedger(dir, 1<<50, 0).start()
	if inUse < mib {
		t.Skipf("%d bytes are in use where the tests' files are", inUse)
	}
	if l := openLedger(dir, mib, 0); l.start() != mib {
		t.Errorf("of a budget of %d bytes %d are in use", mib, l.start())
	}
}
