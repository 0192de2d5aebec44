package blobcache

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hostlocal/manifest"
)

// TestFolderNeverTakesMoreThanTheBudget makes the limit the oracle: a leak of room,
// or a file that is not counted, must exceed it.
func TestFolderNeverTakesMoreThanTheBudget(t *testing.T) {
	// A file system of its own tells at any instant what is taken, removed files that
	// are still open included. du walks, and counts twice what moves meanwhile.
	h := onTmpfs(t, "256m", Options{Budget: 64 * mib})
	h.awaitScan()
	var most atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			most.Store(max(most.Load(), h.taken()))
			time.Sleep(100 * time.Microsecond)
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	images := make([]*origin, 16)
	for i := range images {
		images[i] = newOrigin(16*mib, uint64(100+i))
	}
	big := newOrigin(100*mib, 99)
	var wg sync.WaitGroup
	for client := range 3 {
		wg.Go(func() {
			for i := range images {
				o := images[(i*(client+1)+client)%len(images)]
				if n, err := h.follow(o); err != nil || n != 16*mib {
					t.Errorf("a pull: %d bytes, %v", n, err)
				}
			}
		})
	}
	wg.Go(func() {
		if n, err := h.follow(big); err != nil || n != 100*mib {
			t.Errorf("the blob that does not fit: %d bytes, %v", n, err)
		}
	})
	wg.Wait()
	close(stop)
	<-stopped
	h.await("the fills' end", func() bool { return len(h.Stats().Fills) == 0 })
	if most.Load() > 64*mib {
		t.Errorf("the folder took %d bytes, %d more than its budget", most.Load(), most.Load()-64*mib)
	}
	h.wantLedgerRight()
	if h.Stats().Passed == 0 {
		t.Error("a blob larger than the budget did not pass through")
	}
}

func TestLedgerIsRightAfterARestart(t *testing.T) {
	h := newTester(t, Options{Budget: 64 * mib})
	for i := range uint64(10) {
		o := newOrigin(int64(1+i*mib), 200+i)
		got, err := h.pull(o)
		h.wantRight(o, got, err)
		h.wantPresent(o)
	}
	left := newOrigin(4*mib, 220)
	left.stall = mib
	if _, err := h.pull(left); err == nil {
		t.Fatal("no error")
	}
	h.restart()
	h.awaitScan()
	h.wantLedgerRight()
	if n := h.Stats().Blobs; n != 10 {
		t.Errorf("%d blobs, want 10", n)
	}
}

func TestPinnedAndReadBlobsStay(t *testing.T) {
	h := newTester(t, Options{Budget: 16 * mib})
	pinned, read := newOrigin(4*mib, 300), newOrigin(4*mib, 301)
	for _, o := range []*origin{pinned, read} {
		got, err := h.pull(o)
		h.wantRight(o, got, err)
		h.wantPresent(o)
	}
	unpin, ok := h.Pin(pinned.digest)
	if !ok {
		t.Fatal("cannot pin")
	}
	b, err := h.Open(read.digest)
	if err != nil {
		t.Fatal(err)
	}
	flood := func(seed uint64) {
		for i := range uint64(8) {
			o := newOrigin(4*mib, seed+i)
			got, err := h.pull(o)
			h.wantRight(o, got, err)
			h.await("the fill's end", h.idle) // else there may be no room for the next one
		}
	}
	flood(310)
	if !h.Has(pinned.digest) || !h.Has(read.digest) {
		t.Fatalf("pinned there: %v, being read there: %v", h.Has(pinned.digest), h.Has(read.digest))
	}
	unpin()
	b.Close()
	flood(320)
	flood(330)
	if h.Has(pinned.digest) || h.Has(read.digest) {
		t.Error("a blob that nobody holds stayed through two floods")
	}
}

func TestSmallBlobsOutliveAFloodOfLargeOnes(t *testing.T) {
	h := newTester(t, Options{Budget: 32 * mib})
	small := newOrigin(4000, 400)
	got, err := h.pull(small)
	h.wantRight(small, got, err)
	h.wantPresent(small)
	for i := range uint64(20) {
		o := newOrigin(6*mib, 410+i)
		got, err := h.pull(o)
		h.wantRight(o, got, err)
		h.wantPresent(o)
	}
	if !h.Has(small.digest) {
		t.Error("the small blob was evicted")
	}
}

func TestSourceThatOnlyClaimsToHaveALargeBlobEvictsNothing(t *testing.T) {
	h := newTester(t, Options{Budget: 32 * mib})
	kept := newOrigin(8*mib, 500)
	got, err := h.pull(kept)
	h.wantRight(kept, got, err)
	h.wantPresent(kept)
	liar := newOrigin(28*mib, 501)
	liar.stall = 0
	if _, err := h.pull(liar); err == nil {
		t.Fatal("no error")
	}
	if !h.Has(kept.digest) {
		t.Error("a promise evicted a blob")
	}
}

func TestDamageIsFoundAndHealed(t *testing.T) {
	rewrite := func(f func([]byte) []byte) func(string) error {
		return func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			os.Chmod(path, 0o644)
			return os.WriteFile(path, f(b), 0o644)
		}
	}
	for name, damage := range map[string]func(string) error{
		"truncated":  func(path string) error { return truncateSealed(path, 1000) },
		"emptied":    func(path string) error { return truncateSealed(path, 0) },
		"lengthened": func(path string) error { return truncateSealed(path, 3*mib) },
		"removed":    os.Remove,
		"flipped":    rewrite(func(b []byte) []byte { b[77] ^= 1; return b }),
		"a folder":   func(path string) error { os.Remove(path); return os.Mkdir(path, 0o755) },
	} {
		for _, while := range []string{"running", "down"} {
			t.Run(name+" while "+while, func(t *testing.T) {
				h, o := newTester(t, Options{}), newOrigin(2*mib, 600)
				got, err := h.pull(o)
				h.wantRight(o, got, err)
				h.wantPresent(o)
				h.wantResult("upstream ok")
				if while == "down" {
					h.Close()
				}
				if err := damage(h.blobPath(o.digest)); err != nil {
					t.Fatal(err)
				}
				if while == "down" {
					h.start()
				}
				got, err = h.pull(o)
				h.wantRight(o, got, err)
				h.wantResult("upstream ok")
				h.wantPresent(o)
				if while == "running" && h.Stats().Damaged == 0 {
					t.Error("not counted")
				}
			})
		}
	}
}

func TestFilePutThereByHand(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(mib, 610)
	path := h.blobPath(o.digest)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, o.bytes, 0o644); err != nil {
		t.Fatal(err)
	}
	b, err := h.Open(o.digest)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	wrong := newOrigin(mib, 611)
	path = h.blobPath(wrong.digest)
	os.MkdirAll(filepath.Dir(path), 0o755)
	if err := os.WriteFile(path, o.bytes, sealMode); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Open(wrong.digest); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a wrong file: %v", err)
	}
}

func TestScrubFindsRotThatLeavesTheSealIntact(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(mib, 620)
	got, err := h.pull(o)
	h.wantRight(o, got, err)
	h.wantPresent(o)
	path := h.blobPath(o.digest)
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(path, 0o644)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte{o.bytes[500] ^ 1}, 500)
	f.Close()
	os.Chmod(path, sealMode)
	os.Chtimes(path, fi.ModTime(), fi.ModTime())
	h.Close()
	h.opt.ScrubRate = 1 << 40
	h.start()
	h.await("the scrub", func() bool { return h.Stats().Damaged == 1 && !h.Has(o.digest) })
	h.pull(o)
	h.wantPresent(o)
}

func TestPutPublishesWhatIsRight(t *testing.T) {
	h := newTester(t, Options{})
	o := newOrigin(5000, 700)
	if err := h.Put(o.digest, bytes.NewReader(o.bytes[1:]), -1); !errors.Is(err, manifest.ErrMismatch) {
		t.Fatalf("wrong bytes: %v", err)
	}
	if err := h.Put(o.digest, bytes.NewReader(o.bytes), 4999); !errors.Is(err, manifest.ErrMismatch) {
		t.Fatalf("wrong size: %v", err)
	}
	if err := h.Put(o.digest, bytes.NewReader(o.bytes), 5000); err != nil {
		t.Fatal(err)
	}
	h.wantPresent(o)
	h.awaitScan()
	h.wantLedgerRight()
}

func TestRemovedFolderComesBack(t *testing.T) {
	h := newTester(t, Options{})
	for i := range uint64(3) {
		o := newOrigin(mib, 800+i)
		got, err := h.pull(o)
		h.wantRight(o, got, err)
		h.wantPresent(o)
		if err := os.RemoveAll(h.dir); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSlowReaderOfAPassHoldsNobodyUp(t *testing.T) {
	h, o := newTester(t, Options{Budget: 2 * mib}), newOrigin(24*mib, 900)
	slow, err := h.Get(t.Context(), o.digest, h.want(o, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if slow.Source() != "upstream" {
		t.Fatalf("source %q", slow.Source())
	}
	gate := make(chan struct{})
	done := make(chan error, 1)
	out := &comparer{want: o.bytes}
	go func() { done <- slow.CopyRange(t.Context(), gated{out, gate, nil}, 0, -1) }()
	for range 3 {
		begun := time.Now()
		if n, err := h.follow(o); err != nil || n != 24*mib {
			t.Fatalf("%d bytes, %v", n, err)
		}
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("a pull beside a slow one took %v", took)
		}
	}
	close(gate)
	if err := <-done; err != nil || out.n != 24*mib {
		t.Errorf("the slow one: %d bytes, %v", out.n, err)
	}
}

// gated lets the first write through and then waits.
type gated struct {
	io.Writer
	gate chan struct{}
	in   chan struct{} // closed with the first write; may be nil
}

func (g gated) Write(p []byte) (int, error) {
	n, err := g.Writer.Write(p)
	select {
	case <-g.in:
	default:
		if g.in != nil {
			close(g.in)
		}
	}
	<-g.gate
	return n, err
}

func TestWrongBytesThatPassThroughReachNobodyAsWhole(t *testing.T) {
	h, o := newTester(t, Options{Budget: 2 * mib}), newOrigin(8*mib, 910)
	o.wrong = 100
	got, err := h.pull(o)
	if !errors.Is(err, manifest.ErrMismatch) || len(got) >= len(o.bytes) {
		t.Fatalf("%d of %d bytes, %v", len(got), len(o.bytes), err)
	}
	o.with(func(o *origin) { o.wrong = -1 })
	got, err = h.pull(o)
	h.wantRight(o, got, err)
	got, err = h.pullRange(t.Context(), o, 7*mib, -1)
	if err != nil || !bytes.Equal(got, o.bytes[7*mib:]) {
		t.Fatalf("a range: %d bytes, %v", len(got), err)
	}
}

func TestLockedFolder(t *testing.T) {
	h := newTester(t, Options{})
	if _, err := New(h.dir, h.opt); !errors.Is(err, ErrLocked) {
		t.Errorf("a second cache in one folder: %v", err)
	}
}

// A child that was forked a moment before the end has the lock's file until its exec.
func TestClosedFolderIsFreeAtOnce(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		c, err := New(dir, Options{Budget: mib})
		if err != nil {
			t.Fatal(err)
		}
		child, err := unix.Dup(int(c.lock.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(child)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullCacheTakesMoreRightAfterAKill: after a kill the mark says that the folder
// is full, and nothing is known that could go. What is pulled then is kept all the
// same, as soon as the scan has looked.
func TestFullCacheTakesMoreRightAfterAKill(t *testing.T) {
	h := newTester(t, Options{Budget: 32 * mib})
	for i := range uint64(4) {
		o := newOrigin(7*mib, 1100+i)
		got, err := h.pull(o)
		h.wantRight(o, got, err)
		h.wantPresent(o)
	}
	h.Close()
	if err := os.WriteFile(filepath.Join(h.dir, markFile), []byte("33554432\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.start()
	o := newOrigin(7*mib, 1110)
	got, err := h.pull(o)
	h.wantRight(o, got, err)
	h.wantPresent(o)
}

func TestBlobOfUnknownSizeDoesNotEvictEverything(t *testing.T) {
	h := newTester(t, Options{Budget: 32 * mib})
	kept, unsaid := newOrigin(8*mib, 1200), newOrigin(24*mib, 1201)
	got, err := h.pull(kept)
	h.wantRight(kept, got, err)
	h.wantPresent(kept)
	unsaid.noSize = true
	w := h.want(unsaid, 0)
	w.Size = -1
	b, err := h.Get(t.Context(), unsaid.digest, w)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	c := &comparer{want: unsaid.bytes}
	if err := b.CopyRange(t.Context(), c, 0, -1); err != nil || c.n != 24*mib {
		t.Errorf("%d bytes, %v", c.n, err)
	}
	if !h.Has(kept.digest) {
		t.Error("a blob that did not say how long it is evicted another")
	}
}
