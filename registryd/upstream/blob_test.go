package upstream

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

func TestBlobsAndRangesOfThem(t *testing.T) {
	x := newTester(t, nil)
	l := x.hub.AddImage("library/app", "v1", x.hub.Layer(300_000)).Layers[0]
	for _, c := range []struct{ off, n, want int64 }{{0, -1, 300_000}, {0, 1, 1}, {299_999, -1, 1}, {100, 200, 200}, {1, -1, 299_999}} {
		x.hub.Forget()
		b, from, size, err := x.read(l.Digest, c.off, c.n)
		if err != nil || from != c.off || size != l.Size || !bytes.Equal(b, l.Slice(c.off, c.want)) {
			t.Errorf("%d+%d: %d bytes from %d of %d, %v", c.off, c.n, len(b), from, size, err)
		}
		x.hub.WaitIdle()
		if sent := x.hub.Sent(l.Digest); sent != c.want {
			t.Errorf("%d+%d: %d bytes were sent for it", c.off, c.n, sent)
		}
		if plain := x.hub.Requests(nil)[0].Header.Get("Range") == ""; plain != (c.off == 0 && c.n < 0) {
			t.Errorf("%d+%d: Range header: %v", c.off, c.n, !plain)
		}
	}
	if x.bytes != 300_000+1+1+200+299_999 {
		t.Errorf("ObserveBytes was told of %d bytes", x.bytes)
	}
	if b, from, _, err := x.read(l.Digest, 7, 0); len(b) != 0 || from != 7 || err != nil {
		t.Errorf("nothing: %d bytes from %d, %v", len(b), from, err)
	}
	_, _, _, err := x.read(manifest.DigestOf([]byte("none")), 0, -1)
	x.wantMissing(err)
	_, _, _, err = x.read(l.Digest, 300_000, -1)
	if e := x.wantOutage(err); e.Status != 416 {
		t.Errorf("behind the end: %v", err)
	}
}

func TestUpstreamWithoutRangesSendsFromTheStart(t *testing.T) {
	x := newTester(t, nil)
	l := x.hub.AddImage("library/app", "v1", x.hub.Layer(1000)).Layers[0]
	x.hub.Fault(hubtest.Blobs(), hubtest.NoRanges())
	b, from, size, err := x.read(l.Digest, 500, 10)
	if err != nil || from != 0 || size != 1000 || !bytes.Equal(b, l.Bytes()) {
		t.Errorf("%d bytes from %d of %d, %v", len(b), from, size, err)
	}
	x.hub.Fault(hubtest.Blobs(), hubtest.Chunked())
	b, from, size, err = x.read(l.Digest, 500, 10)
	if err != nil || from != 0 || size != -1 || !bytes.Equal(b, l.Bytes()) {
		t.Errorf("chunked: %d bytes from %d of %d, %v", len(b), from, size, err)
	}
}

func TestUselessBlobAnswersAreRefusedAtOnce(t *testing.T) {
	for name, fault := range map[string]hubtest.Fault{"gzip": hubtest.Gzip(), "page": hubtest.ErrorPage(), "other range": hubtest.WrongRange(1),
		"no Content-Range": hubtest.Header("Content-Range", "bytes 10-19"), "lying Content-Range": hubtest.Header("Content-Range", "bytes 10-29/1000")} {
		t.Run(name, func(t *testing.T) {
			x := newTester(t, nil)
			l := x.hub.AddImage("library/app", "v1", x.hub.Layer(1000)).Layers[0]
			x.hub.Fault(hubtest.Blobs(), fault)
			_, _, _, err := x.read(l.Digest, 10, 10)
			x.wantOutage(err)
			x.count(1, hubtest.GetBlob)
			if name == "gzip" || name == "page" {
				_, _, _, err := x.read(l.Digest, 0, -1)
				x.wantOutage(err)
				x.count(2, hubtest.GetBlob)
			}
		})
	}
}

func TestBrokenBodiesAreErrorsWithWhatCameBefore(t *testing.T) {
	for name, fault := range map[string]hubtest.Fault{"cut": hubtest.CutEvery(50_000), "length": hubtest.ContentLength(100_001), "stall": hubtest.StallAfter(50_000)} {
		t.Run(name, func(t *testing.T) {
			x := newTester(t, impatient)
			l := x.hub.AddImage("library/app", "v1", x.hub.Layer(100_000)).Layers[0]
			x.hub.Fault(hubtest.Blobs(), fault)
			x.within(2*time.Second, func(context.Context) {
				b, _, _, err := x.read(l.Digest, 0, -1)
				x.wantOutage(err)
				if len(b) < 50_000 || !bytes.Equal(b, l.Slice(0, int64(len(b)))) {
					t.Errorf("%d bytes before it broke", len(b))
				}
				if name == "stall" && !errors.Is(err, errStalled) {
					t.Errorf("%v does not say that it stalled", err)
				}
			})
			x.hub.Heal()
			x.wantBlob(l)
		})
	}
}

func TestTriesAreFew(t *testing.T) {
	x := newTester(t, nil)
	l := x.hub.AddImage("library/app", "v1", x.hub.Layer(1000)).Layers[0]
	for _, c := range []struct {
		name  string
		fault hubtest.Fault
		tries int
		ok    bool
	}{
		{"503 twice", hubtest.Times(2, hubtest.Status(503)), 3, true},
		{"dropped once", hubtest.Times(1, hubtest.Drop()), 2, true},
		{"429 once", hubtest.Times(1, hubtest.TooMany(-1)), 2, true},
		{"429 once, to come again after a second", hubtest.Times(1, hubtest.TooMany(1)), 2, true},
		{"429 for long", hubtest.TooMany(3600), 1, false},
		{"503 always", hubtest.Status(503), 3, false},
		{"400", hubtest.Status(400), 1, false},
		{"404", hubtest.Status(404), 1, false},
		{"403", hubtest.Status(403), 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			x.hub.Heal()
			x.hub.Forget()
			x.hub.Fault(hubtest.Blobs(), c.fault)
			b, _, _, err := x.read(l.Digest, 0, -1)
			if (err == nil) != c.ok || c.ok && l.Digest.Verify(b) != nil {
				t.Errorf("%d bytes, %v", len(b), err)
			}
			if n := x.hub.Gets(l.Digest); n != c.tries {
				t.Errorf("%d tries, not %d", n, c.tries)
			}
		})
	}
}

func TestStalledHeadersEndWithinBounds(t *testing.T) {
	x := newTester(t, impatient)
	l := x.hub.AddImage("library/app", "v1", x.hub.Layer(1000)).Layers[0]
	x.hub.Fault(hubtest.Blobs(), hubtest.Stall())
	start := time.Now()
	_, _, _, err := x.read(l.Digest, 0, -1)
	x.wantOutage(err)
	if took := time.Since(start); took > openTimeout {
		t.Errorf("took %v", took)
	}
}

func TestParallelBoundsBodies(t *testing.T) {
	x := newTester(t, func(c *Config) { c.Parallel = 2 })
	l := x.hub.AddImage("library/app", "v1", x.hub.Layer(1<<20)).Layers[0]
	gate := hubtest.NewGate()
	x.hub.Fault(hubtest.Blobs(), hubtest.HoldAfter(10, gate))
	done := make(chan error)
	for range 6 {
		go func() {
			_, _, _, err := x.read(l.Digest, 0, -1)
			done <- err
		}()
	}
	x.hub.Wait(hubtest.Blobs(), 2)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if r, _, _, err := x.c.OpenBlob(ctx, "library/app", l.Digest, 0, -1); err == nil {
		r.Close()
		t.Error("a third body was opened")
	}
	gate.Open()
	for range 6 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := x.hub.MaxInFlight(); n > 3 { // a handler may still be ending when the next begins
		t.Errorf("%d at once", n)
	}
	x.count(6, hubtest.GetBlob)
}

func TestClosingABodyEndsTheExchange(t *testing.T) {
	x := newTester(t, nil)
	l := x.hub.AddImage("library/app", "v1", x.hub.Layer(64<<20)).Layers[0]
	r, _, _, err := x.c.OpenBlob(t.Context(), "library/app", l.Digest, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	r.Close()
	x.hub.WaitIdle()
	if sent := x.hub.Sent(l.Digest); sent == l.Size {
		t.Error("all of it was sent")
	}
	if s := x.c.Status(); !s.DownSince.IsZero() {
		t.Error("a reader that left made the upstream look down")
	}
}
