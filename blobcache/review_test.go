package blobcache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"hostlocal/manifest"
)

// scripted is a source whose answers are given one by one; the last one stays.
type scripted struct {
	name    string
	answers []script
	asked   chan int64 // gets the byte that each request is for
}

type script struct {
	bytes []byte
	size  int64 // that it says
	cut   bool  // ends in an error instead of cleanly
	from0 bool  // sends everything whatever it is asked for
	err   error
}

func (s *scripted) Name() string { return s.name }

func (s *scripted) Open(_ context.Context, off, n int64) (io.ReadCloser, int64, int64, error) {
	a := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	if s.asked != nil {
		s.asked <- off
	}
	if a.err != nil {
		return nil, 0, 0, a.err
	}
	if a.from0 {
		off, n = 0, -1
	}
	b := a.bytes[min(off, int64(len(a.bytes))):]
	if n >= 0 {
		b = b[:min(n, int64(len(b)))]
	}
	var r io.Reader = bytes.NewReader(b)
	if a.cut {
		r = io.MultiReader(r, failing{})
	}
	return io.NopCloser(r), off, a.size, nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errCut }

// TestSizeThatShrinksBelowWhatCameEndsNobodyWell has a source break off behind more
// bytes than the blob has by what the next answer says: a client that has no length
// to compare with must not take what it got for the blob.
func TestSizeThatShrinksBelowWhatCameEndsNobodyWell(t *testing.T) {
	for name, budget := range map[string]int64{"filling": 1 << 30, "passing through": 1 * mib} {
		t.Run(name, func(t *testing.T) {
			h, o := newTester(t, Options{Budget: budget}), newOrigin(3*mib, 2000)
			long := newOrigin(6*mib, 2001)
			liar := &scripted{name: "upstream", answers: []script{
				{bytes: long.bytes, size: -1, cut: true},
				{bytes: o.bytes, size: 3 * mib, from0: true},
			}}
			if budget < 6*mib {
				liar.answers = append(liar.answers[:1:1], liar.answers...) // the fill that has no room has the first
			}
			b, err := h.Get(t.Context(), o.digest, Want{Size: -1, Sources: []Source{liar}})
			if err == nil {
				defer b.Close()
				var out bytes.Buffer
				if err = b.CopyRange(t.Context(), &out, 0, -1); err == nil {
					t.Fatalf("%d wrong bytes ended well", out.Len())
				}
			}
			if !errors.Is(err, manifest.ErrMismatch) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func TestBodyOfUnknownSizeIsResumed(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(20*mib, 2010)
	o.noSize, o.cut = true, 5*mib
	b, err := h.Get(t.Context(), o.digest, Want{Size: -1, Sources: []Source{o}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	c := &comparer{want: o.bytes}
	if err := b.CopyRange(t.Context(), c, 0, -1); err != nil || c.n != 20*mib {
		t.Errorf("%d bytes, %v", c.n, err)
	}
	if o.sent.Load() != 20*mib {
		t.Errorf("the source sent %d bytes", o.sent.Load())
	}
}

func TestEmptyBlobOfUnknownSize(t *testing.T) {
	for _, size := range []int64{0, -1} {
		h, o := newTester(t, Options{}), newOrigin(0, 2020)
		o.noSize = true
		b, err := h.Get(t.Context(), o.digest, Want{Size: size, Sources: []Source{o}})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err = b.CopyRange(t.Context(), &out, 0, -1)
		b.Close()
		h.wantRight(o, out.Bytes(), err)
		h.wantPresent(o)
	}
}

func TestSourceThatBreaksOffIsResumedAfterAMismatchToo(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(12*mib, 2030)
	o.wrong = 5 * mib
	if _, err := h.pull(o); !errors.Is(err, manifest.ErrMismatch) {
		t.Fatal(err)
	}
	h.wantResult("upstream mismatch")
	o.with(func(o *origin) { o.wrong, o.cut = -1, mib })
	got, err := h.pull(o)
	h.wantRight(o, got, err)
	h.wantPresent(o)
}

// TestPassAfterAMismatchAsksTheOtherSource: with no room for the blob there is no
// fill that would know better.
func TestPassAfterAMismatchAsksTheOtherSource(t *testing.T) {
	h, o := newTester(t, Options{Budget: mib}), newOrigin(3*mib, 2040)
	bad := o.twin("store")
	bad.wrong = mib
	for i, wantErr := range []bool{true, false} {
		b, err := h.Get(t.Context(), o.digest, Want{Size: 3 * mib, Sources: []Source{bad, o}})
		if err == nil {
			err = b.CopyRange(t.Context(), io.Discard, 0, -1)
			b.Close()
		}
		if (err != nil) != wantErr {
			t.Fatalf("pull %d: %v", i, err)
		}
	}
}

// TestRangesOfAPassAreHashedByTheirReader: what comes by a range of the reader's own
// is not what the pass has hashed.
func TestRangesOfAPassAreHashedByTheirReader(t *testing.T) {
	h, o := newTester(t, Options{Budget: mib}), newOrigin(12*mib, 2050)
	both := make(chan struct{}) // both readers follow the stream: now it may leave one behind
	o.pace = func(off int64) {
		if off >= mib {
			<-both
		}
	}
	follow := func(w io.Writer, gate chan struct{}) chan error {
		b, err := h.Get(t.Context(), o.digest, h.want(o, 0))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		in, done := make(chan struct{}), make(chan error, 1)
		go func() { done <- b.CopyRange(t.Context(), gated{w, gate, in}, 0, -1) }()
		<-in
		return done
	}
	var out bytes.Buffer
	gate, open := make(chan struct{}), make(chan struct{})
	close(open)
	fast := &comparer{want: o.bytes}
	slowDone, fastDone := follow(&out, gate), follow(fast, open)
	close(both)
	if err := <-fastDone; err != nil || fast.n != 12*mib {
		t.Fatalf("%d bytes, %v", fast.n, err)
	}
	o.with(func(o *origin) { o.wrong = 6 * mib })
	close(gate)
	if err := <-slowDone; !errors.Is(err, manifest.ErrMismatch) || out.Len() >= 12*mib {
		t.Errorf("%d bytes, %v", out.Len(), err)
	}
}

func TestEndedPassGivesItsWindowToOthers(t *testing.T) {
	h := newTester(t, Options{Budget: mib, Window: windowMax})
	first := newOrigin(12*mib, 2060)
	slow, err := h.Get(t.Context(), first.digest, h.want(first, 0))
	if err != nil {
		t.Fatal(err)
	}
	gate, done := make(chan struct{}), make(chan error, 1)
	out := &comparer{want: first.bytes}
	go func() { done <- slow.CopyRange(t.Context(), gated{out, gate, nil}, 0, -1) }()
	if n, err := h.follow(first); err != nil || n != 12*mib {
		t.Fatalf("%d bytes, %v", n, err)
	}
	h.wantResult("upstream storage")
	h.await("the end of the first stream", func() bool { return len(h.results) > 0 })
	if h.windowsFree() != 0 {
		t.Error("the window was given back, and is still held by its reader")
	}
	second := newOrigin(2*mib, 2061)
	if n, err := h.follow(second); err != nil || n != 2*mib {
		t.Fatalf("beside a slow reader of another blob: %d bytes, %v", n, err)
	}
	close(gate)
	if err := <-done; err != nil || out.n != 12*mib {
		t.Errorf("the slow one: %d bytes, %v", out.n, err)
	}
	slow.Close()
	h.await("all memory", func() bool { return h.windowsFree() == windowMax })
}

// TestPartialShorterThanItsMapCountsForNothing: holes would go out as zeros.
func TestPartialShorterThanItsMapCountsForNothing(t *testing.T) {
	for name, damage := range map[string]func(string) error{
		"truncated": func(path string) error { return os.Truncate(path, mib) },
		"removed":   os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			h, o := newTester(t, Options{}), newOrigin(8*mib, 2080)
			o.stall = 4 * mib
			if _, err := h.pull(o); err == nil {
				t.Fatal("no error")
			}
			h.wantResult("upstream failed")
			if err := damage(filepath.Join(h.dir, partialDir, partialName(o.digest))); err != nil {
				t.Fatal(err)
			}
			o.with(func(o *origin) { o.stall = -1 })
			got, err := h.pull(o)
			h.wantRight(o, got, err)
			h.wantPresent(o)
		})
	}
}

func TestSHA512Blob(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(5*mib, 2090)
	sum := manifest.SHA512.New()
	sum.Write(o.bytes)
	o.digest = manifest.SHA512.Sum(sum)
	got, err := h.pull(o)
	h.wantRight(o, got, err)
	h.wantPresent(o)
	h.restart()
	h.awaitScan()
	opens := o.opens.Load()
	got, err = h.pull(o)
	h.wantRight(o, got, err)
	if o.opens.Load() != opens || h.Stats().Blobs != 1 {
		t.Errorf("after a restart: %d requests, %d blobs known", o.opens.Load()-opens, h.Stats().Blobs)
	}
}

func TestRangesBeyondTheEnd(t *testing.T) {
	for _, n := range []int64{0, 1000, mib} {
		h, o := newTester(t, Options{}), newOrigin(n, 2100)
		for range 2 { // filling, then present
			for _, r := range []struct{ off, n, want int64 }{{n, -1, 0}, {n, 5, 0}, {0, 0, 0}, {n / 2, n + 5, n - n/2}} {
				got, err := h.pullRange(t.Context(), o, r.off, r.n)
				if err != nil || int64(len(got)) != r.want {
					t.Errorf("%d bytes from %d on of %d: %d, %v", r.n, r.off, n, len(got), err)
				}
			}
			h.wantPresent(o)
		}
		b, err := h.Open(o.digest)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := b.ReadAt(make([]byte, 4), n+3); m != 0 || err != io.EOF {
			t.Errorf("ReadAt beyond the end: %d, %v", m, err)
		}
		b.Close()
	}
}

func TestClosedCacheTakesNothing(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(mib, 2110)
	h.Close()
	if err := h.Put(o.digest, bytes.NewReader(o.bytes), mib); err == nil {
		t.Error("Put")
	}
	if _, err := h.joinPass(t.Context(), &Blob{c: h.Cache, digest: o.digest, want: h.want(o, 0)}); err == nil {
		t.Error("a pass began")
	}
	if _, err := h.pull(o); err == nil {
		t.Error("a fill began")
	}
}
