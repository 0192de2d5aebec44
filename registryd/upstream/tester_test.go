package upstream

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"testing"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

// A tester is a client before a hub.
type tester struct {
	*testing.T
	hub *hubtest.Hub
	c   *Client

	mu    sync.Mutex
	seen  map[string][]int // what Observe was told, by kind
	bytes int64
}

func newTester(t *testing.T, change func(*Config), opts ...hubtest.Option) *tester {
	t.Helper()
	return testerOf(t, hubtest.New(t, opts...), change)
}

// impatient is for what a test has stall.
func impatient(c *Config) { c.StallTimeout, c.HeaderTimeout = time.Second, time.Second }

func testerOf(t *testing.T, hub *hubtest.Hub, change func(*Config)) *tester {
	t.Helper()
	x := &tester{T: t, hub: hub, seen: map[string][]int{}}
	cfg := Config{Name: "hub.test", URL: hub.URL,
		StallTimeout: 20 * time.Second, HeaderTimeout: 20 * time.Second, // a busy machine is no outage
		Observe: func(kind string, code int) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.seen[kind] = append(x.seen[kind], code)
		},
		ObserveBytes: func(n int64) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.bytes += n
		},
	}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	x.c = c
	return x
}

// read opens a range and reads it to its end.
func (x *tester) read(d manifest.Digest, off, n int64) (b []byte, from, size int64, err error) {
	x.Helper()
	r, from, size, err := x.c.OpenBlob(x.Context(), "library/app", d, off, n)
	if err != nil {
		if r != nil {
			x.Errorf("an error (%v) and a body", err)
		}
		return nil, from, size, err
	}
	defer r.Close()
	b, err = io.ReadAll(io.LimitReader(r, 16<<20))
	return b, from, size, err
}

func (x *tester) wantBlob(l hubtest.Content) {
	x.Helper()
	b, _, _, err := x.read(l.Digest, 0, -1)
	if err == nil {
		err = l.Digest.Verify(b)
	}
	if err != nil {
		x.Errorf("blob: %v", err)
	}
}

func (x *tester) wantTag(img hubtest.Image) {
	x.Helper()
	d, err := x.c.Head(x.Context(), img.Repo, img.Tag)
	if err != nil || d.Digest != img.Digest || d.MediaType != img.MediaType || d.Size != int64(len(img.Body)) {
		x.Errorf("Head(%s) = %v, %v; want %s", img.Name(), d, err, img.Digest)
	}
}

// wantOutage, wantDenied and wantMissing tell the three kinds of failure apart.
func (x *tester) wantOutage(err error) *Error {
	x.Helper()
	var e *Error
	if !errors.As(err, &e) || !Outage(err) {
		x.Fatalf("%v is not an outage", err)
	}
	return e
}

func (x *tester) wantDenied(err error) {
	x.Helper()
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, fs.ErrPermission) || Outage(err) {
		x.Fatalf("%v is not a refusal", err)
	}
}

func (x *tester) wantMissing(err error) {
	x.Helper()
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, fs.ErrNotExist) || Outage(err) {
		x.Fatalf("%v is not a miss", err)
	}
}

// within gives ctx a deadline, and the test an error if f takes much longer.
func (x *tester) within(d time.Duration, f func(ctx context.Context)) {
	x.Helper()
	ctx, cancel := context.WithTimeout(x.Context(), d)
	defer cancel()
	start := time.Now()
	f(ctx)
	if took := time.Since(start); took > d+2*time.Second {
		x.Errorf("took %v, with a deadline of %v", took, d)
	}
}

func (x *tester) count(want int, kinds ...hubtest.Kind) {
	x.Helper()
	if n := x.hub.Count(kinds...); n != want {
		x.Errorf("%d requests of %v, not %d", n, kinds, want)
	}
}
