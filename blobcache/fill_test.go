package blobcache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"hostlocal/manifest"
)

const mib = 1 << 20

func TestPullFillsOnceAndThenComesFromDisk(t *testing.T) {
	for _, n := range []int64{0, 1, 100, whole, whole + 1, mib, 24*mib + 17} {
		h, o := newTester(t, Options{}), newOrigin(n, 1)
		got, err := h.pull(o)
		h.wantRight(o, got, err)
		h.wantResult("upstream ok")
		h.wantPresent(o)
		opens := o.opens.Load()
		got, err = h.pull(o)
		h.wantRight(o, got, err)
		if o.opens.Load() != opens {
			t.Errorf("%d bytes: the second pull asked the source", n)
		}
		if o.sent.Load() != n {
			t.Errorf("%d bytes: the source sent %d", n, o.sent.Load())
		}
	}
}

func TestManyClientsCostOneFetch(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(24*mib, 2)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if n, err := h.follow(o); err != nil || n != 24*mib {
				t.Errorf("a client got %d right bytes, %v", n, err)
			}
		})
	}
	wg.Wait()
	if o.sent.Load() != int64(len(o.bytes)) {
		t.Errorf("the source sent %d bytes for a blob of %d", o.sent.Load(), len(o.bytes))
	}
}

func TestJoiningClientHasWhatHasLandedAtOnce(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(8*mib, 3)
	gate := make(chan struct{})
	o.pace = func(off int64) {
		if off >= 4*mib {
			<-gate
		}
	}
	first, err := h.Get(t.Context(), o.digest, h.want(o, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if err := first.CopyRange(t.Context(), io.Discard, 0, 4*mib); err != nil {
		t.Fatal(err)
	}
	got, err := h.pullRange(t.Context(), o, 0, 4*mib) // returns although nothing more lands
	if err != nil || !bytes.Equal(got, o.bytes[:4*mib]) {
		t.Fatalf("joined: %d bytes, %v", len(got), err)
	}
	close(gate)
	got, err = h.pull(o)
	h.wantRight(o, got, err)
	if o.opens.Load() != 1 {
		t.Errorf("%d requests", o.opens.Load())
	}
}

func TestLeavingClientDoesNotStopFill(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(8*mib, 4)
	gate := make(chan struct{})
	o.pace = func(off int64) {
		if off >= mib {
			<-gate
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := h.pullRange(ctx, o, 0, -1)
		done <- err
	}()
	h.await("the fill", func() bool { return o.sent.Load() > 0 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("the client that left got %v", err)
	}
	close(gate)
	h.wantResult("upstream ok")
	h.wantPresent(o)
}

func TestLastByteWaitsForTheDigest(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(4*mib, 5)
	o.wrong = 2 * mib
	got, err := h.pull(o)
	if !errors.Is(err, manifest.ErrMismatch) || len(got) >= len(o.bytes) {
		t.Fatalf("wrong bytes: the client got %d of %d, %v", len(got), len(o.bytes), err)
	}
	h.wantResult("upstream mismatch")
	if _, err := os.Stat(h.blobPath(o.digest)); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a wrong blob was kept: %v", err)
	}
	// The tail alone is not to be had either, now: a client would glue it to a
	// wrong beginning.
	if _, err := h.pullRange(t.Context(), o, 3*mib, -1); !errors.Is(err, manifest.ErrMismatch) {
		t.Fatalf("range after a mismatch: %v", err)
	}
	o.with(func(o *origin) { o.wrong = -1 })
	got, err = h.pull(o)
	h.wantRight(o, got, err)
}

func TestWrongSmallBlobComesFromTheOtherSourceUnnoticed(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(1000, 6)
	bad := o.twin("store")
	bad.wrong = 5
	b, err := h.Get(t.Context(), o.digest, Want{Size: 1000, Sources: []Source{bad, o}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var out bytes.Buffer
	err = b.CopyRange(t.Context(), &out, 0, -1)
	h.wantRight(o, out.Bytes(), err)
	h.wantResult("store mismatch")
	h.wantResult("upstream ok")
}

// The right blob is shorter than the wrong one before it, and the file that both
// were written to is cut to it.
func TestLongerWrongBlobLeavesNoTail(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(1000, 61)
	bad := newOrigin(9000, 62)
	bad.name, bad.digest = "store", o.digest
	for _, size := range []int64{-1, 1000} {
		b, err := h.Get(t.Context(), o.digest, Want{Size: size, Sources: []Source{bad, o}})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err = b.CopyRange(t.Context(), &out, 0, -1)
		b.Close()
		h.wantRight(o, out.Bytes(), err)
		h.wantResult("store mismatch")
		h.wantResult("upstream ok")
		h.wantPresent(o)
		if err := h.Remove(o.digest); err != nil {
			t.Fatal(err)
		}
		h.restart() // forgets the suspicion
	}
}

// A source that says another length than the descriptor and then breaks off does
// not make the right one look wrong, now or for the next client.
func TestSourceOfTheDescribedLengthIsBelieved(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(3*mib, 63)
	bad := o.twin("store")
	bad.size, bad.cut = 1000, 100
	for range 2 {
		got, err := h.pull(bad, o)
		h.wantRight(o, got, err)
		if err := h.Remove(o.digest); err != nil {
			t.Fatal(err)
		}
	}
}

// The one source that is asked after a mismatch breaks off: the next one is asked,
// at once or with the next request.
func TestOneSourceAfterAMismatchGivesWay(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(3*mib, 64)
	o.wrong = 2 * mib
	store := o.twin("store")
	store.wrong, store.cut, store.err = -1, 100, errors.New("away")
	if _, err := h.pull(store, o); !errors.Is(err, manifest.ErrMismatch) {
		t.Fatalf("wrong bytes: %v", err)
	}
	o.with(func(o *origin) { o.wrong = -1 })
	store.with(func(o *origin) { o.err = nil })
	h.pull(store, o) // may break off: the store was asked first, and cut the body
	got, err := h.pull(store, o)
	h.wantRight(o, got, err)
}

func TestAfterAMismatchTheOtherSourceIsAsked(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(3*mib, 7)
	bad := o.twin("store")
	bad.wrong = 5
	want := Want{Size: 3 * mib, Sources: []Source{bad, o}}
	for i, wantErr := range []bool{true, false} {
		b, err := h.Get(t.Context(), o.digest, want)
		if err == nil {
			err = b.CopyRange(t.Context(), io.Discard, 0, -1)
			b.Close()
		}
		if (err != nil) != wantErr {
			t.Fatalf("pull %d: %v", i, err)
		}
	}
	h.wantPresent(o)
}

func TestRangeNearTheEndOfAColdBlob(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(64*mib, 8)
	got, err := h.pullRange(t.Context(), o, 63*mib, mib/2)
	if err != nil || !bytes.Equal(got, o.bytes[63*mib:63*mib+mib/2]) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	h.wantResult("upstream ok")
	h.wantPresent(o)
	if o.sent.Load() != 64*mib {
		t.Errorf("the source sent %d bytes", o.sent.Load())
	}
}

func TestParallelRangesCostOneBlob(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(64*mib, 9)
	o.part = 1 << 40 // an upstream's plan: one request for everything
	var wg sync.WaitGroup
	for i := range int64(8) {
		wg.Go(func() {
			w := h.want(o, i*8*mib)
			w.Ranged = true
			b, err := h.Get(t.Context(), o.digest, w)
			if err != nil {
				t.Error(err)
				return
			}
			defer b.Close()
			var out bytes.Buffer
			if err := b.CopyRange(t.Context(), &out, i*8*mib, 8*mib); err != nil || !bytes.Equal(out.Bytes(), o.bytes[i*8*mib:(i+1)*8*mib]) {
				t.Errorf("range %d: %d bytes, %v", i, out.Len(), err)
			}
		})
	}
	wg.Wait()
	h.wantPresent(o)
	if o.sent.Load() != 64*mib {
		t.Errorf("the source sent %d bytes for %d", o.sent.Load(), 64*mib)
	}
}

func TestFaultySources(t *testing.T) {
	const n = 24 * mib
	for _, c := range []struct {
		name  string
		fault func(*origin)
		cost  float64 // bytes sent, at most, in sizes of the blob
	}{
		{"cut every 5 MiB", func(o *origin) { o.cut = 5 * mib }, 1.01},
		{"cut every 5 MiB, cleanly", func(o *origin) { o.cut, o.short = 5*mib, true }, 1.01},
		{"parallel parts, cut", func(o *origin) { o.cut, o.parallel, o.part = mib, 8, 3*mib }, 1.01},
		{"no size said", func(o *origin) { o.noSize = true }, 1.01},
		{"no ranges", func(o *origin) { o.noRange, o.part = true, 1<<40 }, 1.01},
		{"no ranges, planned in parts", func(o *origin) { o.noRange, o.parallel, o.part = true, 8, 3*mib }, 1.6},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, o := newTester(t, Options{}), newOrigin(n, 10)
			o.with(c.fault)
			got, err := h.pull(o)
			h.wantRight(o, got, err)
			h.wantPresent(o)
			if cost := float64(o.sent.Load()) / n; cost > c.cost {
				t.Errorf("the source sent %.2f times the blob", cost)
			}
		})
	}
}

func TestUnknownSize(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(5*mib, 11)
	o.noSize = true
	w := h.want(o, 0)
	w.Size = -1
	b, err := h.Get(t.Context(), o.digest, w)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var out bytes.Buffer
	err = b.CopyRange(t.Context(), &out, 0, -1)
	h.wantRight(o, out.Bytes(), err)
	h.wantPresent(o)
}

func TestLyingDescriptorHurtsNobody(t *testing.T) {
	for _, lie := range []int64{0, 1, 3 * mib, 50 * mib} {
		h, o := newTester(t, Options{}), newOrigin(5*mib, 12)
		w := h.want(o, 0)
		w.Size = lie
		b, err := h.Get(t.Context(), o.digest, w)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err = b.CopyRange(t.Context(), &out, 0, -1)
		h.wantRight(o, out.Bytes(), err)
		b.Close()
		h.wantPresent(o)
	}
}

func TestStalledSourceGivesWay(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(8*mib, 13)
	stalled := o.twin("store")
	stalled.stall = mib
	b, err := h.Get(t.Context(), o.digest, Want{Size: 8 * mib, Sources: []Source{stalled, o}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var out bytes.Buffer
	err = b.CopyRange(t.Context(), &out, 0, -1)
	h.wantRight(o, out.Bytes(), err)
	if sent := stalled.sent.Load() + o.sent.Load(); sent != 8*mib {
		t.Errorf("both sent %d bytes together", sent)
	}
}

func TestSilentSourceIsRaced(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(mib, 14)
	silent := o.twin("store")
	silent.gate, silent.patience = make(chan struct{}), 100*time.Millisecond
	begun := time.Now()
	b, err := h.Get(t.Context(), o.digest, Want{Size: mib, Sources: []Source{silent, o}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if took := time.Since(begun); took > firstAnswer/2 {
		t.Errorf("first answer after %v", took)
	}
}

func TestNoSourceLeftIsAnError(t *testing.T) {
	outage := errors.New("502")
	for _, c := range []struct {
		store, upstream, want error
	}{
		{fs.ErrNotExist, fs.ErrNotExist, fs.ErrNotExist},
		{fs.ErrNotExist, fs.ErrPermission, fs.ErrPermission},
		{fs.ErrNotExist, outage, outage},
		{outage, outage, outage},
		{outage, fs.ErrNotExist, outage}, // the store might have it
	} {
		h, o := newTester(t, Options{}), newOrigin(mib, 15)
		store := o.twin("store")
		store.err, o.err = c.store, c.upstream
		_, err := h.Get(t.Context(), o.digest, Want{Size: mib, Sources: []Source{store, o}})
		if !errors.Is(err, c.want) {
			t.Errorf("store %v, upstream %v: %v", c.store, c.upstream, err)
		}
		// Nothing is remembered against them.
		o.with(func(o *origin) { o.err = nil })
		got, err := h.pull(o)
		h.wantRight(o, got, err)
	}
}

func TestBrokenFillGoesOnWhereItStood(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(16*mib, 16)
	o.stall, o.part = 10*mib, 1<<40
	if _, err := h.pull(o); err == nil {
		t.Fatal("a stalled source made a whole pull")
	}
	h.wantResult("upstream failed")
	o.with(func(o *origin) { o.stall = -1 })
	got, err := h.pull(o)
	h.wantRight(o, got, err)
	if o.sent.Load() != 16*mib {
		t.Errorf("the source sent %d bytes in all", o.sent.Load())
	}
}

func TestRestartGoesOnWhereItStood(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(16*mib, 17)
	gate := make(chan struct{})
	o.pace = func(off int64) {
		if off >= 10*mib {
			<-gate
		}
	}
	b, err := h.Get(t.Context(), o.digest, h.want(o, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.CopyRange(t.Context(), io.Discard, 0, 10*mib-1); err != nil {
		t.Fatal(err)
	}
	b.Close()
	go func() {
		<-h.ctx.Done()
		close(gate)
	}()
	h.restart()
	h.wantResult("upstream stopped")
	o.with(func(o *origin) { o.pace = nil })
	h.Resume(func(d manifest.Digest, origin string, size int64) []Source {
		if d != o.digest || origin != "test" || size != 16*mib {
			t.Errorf("resume of %s, %q, %d bytes", d, origin, size)
		}
		return []Source{o}
	})
	h.wantResult("upstream ok")
	h.wantPresent(o)
	if sent := o.sent.Load(); sent > 16*mib+mapStep {
		t.Errorf("the source sent %d bytes in all", sent)
	}
}

func TestMapOfAnotherBootDoesNotCount(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(4*mib, 18)
	o.stall = 2 * mib
	if _, err := h.pull(o); err == nil {
		t.Fatal("no error")
	}
	h.wantResult("upstream failed")
	path := filepath.Join(h.dir, partialDir, partialName(o.digest)) + mapSuffix
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Replace(b, []byte(bootID()), []byte("00000000-0000-0000-0000-000000000000"), 1)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	o.with(func(o *origin) { o.stall = -1 })
	got, err := h.pull(o)
	h.wantRight(o, got, err)
	if o.sent.Load() != 6*mib {
		t.Errorf("the source sent %d bytes in all, want the blob again", o.sent.Load())
	}
}

// TestEndlessBytesThatBreakOffDoNotEndWell: the first source says no length and
// sends more than there is; when it breaks off, the second one says how long the
// blob is. Whoever had read beyond that must not be told that this was the end.
func TestEndlessBytesThatBreakOffDoNotEndWell(t *testing.T) {
	for _, budget := range []int64{1 << 30, mib} { // filled, and passed through
		testEndless(t, budget)
	}
}

func testEndless(t *testing.T, budget int64) {
	h, o := newTester(t, Options{Budget: budget}), newOrigin(100_000, 20)
	endless := newOrigin(3*mib, 21)
	endless.name, endless.noSize, endless.cut = "store", true, 2*mib
	b, err := h.Get(t.Context(), o.digest, Want{Size: -1, Sources: []Source{endless, o}})
	if err == nil {
		err = b.CopyRange(t.Context(), io.Discard, 0, -1)
		b.Close()
	}
	if !errors.Is(err, manifest.ErrMismatch) {
		t.Fatalf("a body of more than there is ended with %v", err)
	}
	got, err := h.pull(o)
	h.wantRight(o, got, err)
}

// TestFillOfAnotherRepositoryFailsForItAlone has a client ask for a blob while
// another one asks for it under a repository that has not got it.
func TestFillOfAnotherRepositoryFailsForItAlone(t *testing.T) {
	for _, mode := range []string{"fill", "pass"} {
		t.Run(mode, func(t *testing.T) {
			opt := Options{}
			if mode == "pass" {
				opt.Budget = mib
			}
			h, o := newTester(t, opt), newOrigin(2*mib, 90)
			gate := make(chan struct{})
			elsewhere := o.twin("elsewhere").with(func(o *origin) { o.gate, o.err = gate, fs.ErrNotExist })
			refused := make(chan error, 1)
			go func() {
				w := h.want(elsewhere, 0)
				w.Origin = "another"
				_, err := h.Get(context.Background(), o.digest, w)
				refused <- err
			}()
			h.await("the other's question", func() bool { return elsewhere.opens.Load() > 0 })
			var got []byte
			var err error
			served := make(chan struct{})
			go func() {
				defer close(served)
				got, err = h.pull(o)
			}()
			h.await("the second client", func() bool {
				h.Cache.mu.Lock()
				defer h.Cache.mu.Unlock()
				if p := h.passes[o.digest]; p != nil {
					return p.readers == 2
				}
				f := h.fills[o.digest]
				if f == nil {
					return false
				}
				f.mu.Lock()
				defer f.mu.Unlock()
				return f.readers == 2
			})
			close(gate)
			if err := <-refused; !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the other client got %v", err)
			}
			<-served
			h.wantRight(o, got, err)
		})
	}
}

// TestWrongBytesOfAFillAreNotCompletedByAPass has a source send wrong bytes until
// the disk is full, and right ones when the blob passes through.
func TestWrongBytesOfAFillAreNotCompletedByAPass(t *testing.T) {
	for name, wrong := range map[string]func(*origin){
		"a byte": func(o *origin) { o.wrong, o.noSize = 17, true },
		"none":   func(o *origin) { o.noSize = true },
	} {
		t.Run(name, func(t *testing.T) {
			h, o := newTester(t, Options{Budget: 12 * mib}), newOrigin(20*mib, 91)
			want := h.want(o, 0)
			want.Size = -1 // so that the disk's end is found only when it is there
			right, healed := o.bytes, make(chan struct{})
			o.with(wrong)
			o.pace = func(off int64) {
				if off >= 4*mib {
					<-healed // by the client's first byte
				}
			}
			b, err := h.Get(t.Context(), o.digest, want)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			got := &healer{heal: sync.OnceFunc(func() {
				o.with(func(o *origin) { o.wrong, o.bytes, o.noSize = -1, right, false })
				close(healed)
			})}
			err = b.CopyRange(t.Context(), got, 0, -1)
			if name == "none" {
				h.wantRight(o, got.buf.Bytes(), err)
			} else if err == nil {
				t.Errorf("%d bytes came to a good end, right: %v", got.buf.Len(), bytes.Equal(got.buf.Bytes(), right))
			}
		})
	}
}

// A healer is a client's buffer; the source is right again from its first byte on.
type healer struct {
	buf  bytes.Buffer // no embedding: its ReadFrom would go past Write
	heal func()
}

func (h *healer) Write(p []byte) (int, error) {
	h.heal()
	return h.buf.Write(p)
}
