package registryd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hostlocal/blobcache"
	"hostlocal/manifest"
	"hostlocal/registryd/upstream"
	"hostlocal/registryd/upstream/hubtest"
)

// asking counts what a client is asked at once. The hub sees more: of a request that was
// given up it hears a moment later, when another has its place.
type asking struct {
	*upstream.Client
	now, most atomic.Int64
}

func (a *asking) begin() (end func()) {
	n := a.now.Add(1)
	for most := a.most.Load(); n > most && !a.most.CompareAndSwap(most, n); most = a.most.Load() {
	}
	return func() { a.now.Add(-1) }
}

func (a *asking) Head(ctx context.Context, repo, ref string) (manifest.Descriptor, error) {
	defer a.begin()()
	return a.Client.Head(ctx, repo, ref)
}

func (a *asking) Manifest(ctx context.Context, repo, ref string) ([]byte, string, error) {
	defer a.begin()()
	return a.Client.Manifest(ctx, repo, ref)
}

func (a *asking) OpenBlob(ctx context.Context, repo string, d manifest.Digest, off, n int64) (io.ReadCloser, int64, int64, error) {
	defer a.begin()()
	return a.Client.OpenBlob(ctx, repo, d, off, n)
}

// twoHubs is a host without a bucket, and two upstreams, a.test and b.test.
func twoHubs(t *testing.T) (a, b *hubtest.Hub, g *Registry) {
	t.Helper()
	a, b = hubtest.New(t), hubtest.New(t, hubtest.Seed(2))
	cache, err := blobcache.New(t.TempDir(), blobcache.Options{Budget: 256 << 20, ScrubRate: -1})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Names:     &manifest.Names{Upstreams: []manifest.Upstream{{Name: "a.test"}, {Name: "b.test"}}},
		Cache:     cache,
		Upstreams: map[string]Upstream{},
		Policies:  []TagRule{{Upstream: "a.test", Match: "always", Policy: Policy{Mode: Always}}},
	}
	var clients []*upstream.Client
	for name, hub := range map[string]*hubtest.Hub{"a.test": a, "b.test": b} {
		c, err := upstream.New(upstream.Config{Name: name, URL: hub.URL})
		if err != nil {
			t.Fatal(err)
		}
		o.Upstreams[name] = &asking{Client: c}
		clients = append(clients, c)
	}
	if g, err = New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(g.Shutdown(context.Background()), cache.Close()); err != nil {
			t.Error(err)
		}
		for _, c := range clients {
			c.Close()
		}
	})
	return a, b, g
}

// A crowd asks a stalled upstream for 5,000 things that nobody has heard of. The
// upstream sees a bounded number of them, who is not asked hears so soon, and what
// others do goes on: known tags, what is on the disk, another upstream's cold images.
func TestAStalledUpstreamHoldsABoundedNumberOfQuestions(t *testing.T) {
	const crowd = 5000
	busy, soon := 256, 8*time.Second
	if underRace { // it takes the processor for itself: what is left are the counts
		busy, soon = 64, 20*time.Second
	}
	a, b, g := twoHubs(t)
	known := a.AddImage("library/app", "always", a.Layers(300, 100_000)...)
	pull := func(name string, img hubtest.Image) (warning string) {
		t.Helper()
		ctx := t.Context()
		repo, err := g.Resolve(ctx, name+"/"+img.Repo, "")
		if err != nil {
			t.Fatal(err)
		}
		answer, err := g.Manifest(ctx, repo, Ref{Tag: img.Tag}, false)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Close()
		for _, c := range children(answer.Manifest) {
			blob, err := g.Blob(ctx, repo, c.Digest, 0, false)
			if err != nil {
				t.Fatal(err)
			}
			if err := blob.CopyRange(ctx, io.Discard, 0, -1); err != nil {
				t.Fatal(err)
			}
			blob.Close()
		}
		return answer.Warning
	}
	if w := pull("a.test", known); w != "" {
		t.Fatalf("warning %q", w)
	}
	a.WaitIdle()
	idle := runtime.NumGoroutine()
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	heap := before.HeapAlloc
	a.Forget()
	a.Fault(hubtest.All(), hubtest.Stall())

	repo, err := g.Resolve(t.Context(), "a.test/library/app", "")
	if err != nil {
		t.Fatal(err)
	}
	var refused, held atomic.Int64
	var all sync.WaitGroup
	for i := range crowd {
		all.Go(func() {
			start := time.Now()
			var err error
			switch d := manifest.DigestOf(fmt.Append(nil, i)); i % 4 {
			case 0:
				_, err = g.Manifest(t.Context(), repo, Ref{Tag: fmt.Sprint("t", i)}, i%8 == 0)
			case 1:
				_, err = g.Manifest(t.Context(), repo, Ref{Digest: d}, false)
			case 2:
				_, err = g.Blob(t.Context(), repo, d, 0, false)
			case 3:
				_, _, err = g.StatBlob(t.Context(), repo, d)
			}
			if err == nil {
				t.Error("an answer from nowhere")
			}
			if restFor(err) > 0 && time.Since(start) < soon {
				refused.Add(1)
			} else {
				held.Add(1)
			}
		})
	}
	toldSoon := func() {
		t.Helper()
		// Who gives up makes place for another, so that on a busy machine, where the crowd
		// is long on its way, more are held than at once. Without a bound all are.
		for refused.Load()+held.Load() < crowd*9/10 {
			if held.Load() > crowd*2/3 {
				t.Fatalf("%d of %d waited in vain, %d were told soon", held.Load(), crowd, refused.Load())
			}
			time.Sleep(time.Millisecond)
		}
	}
	a.Wait(nil, busy)
	if underRace {
		toldSoon() // a crowd that is still on its way there leaves others no time
	}
	for i := range 3 {
		start := time.Now()
		if w := pull("a.test", known); w == "" {
			t.Error("a known tag of the stalled upstream has no warning")
		}
		pull("b.test", b.AddImage("library/app", fmt.Sprint("v", i), b.Layers(300, 100_000)...))
		if took := time.Since(start); took > soon {
			t.Errorf("others waited %v", took)
		}
	}
	toldSoon()
	// 64 are the bodies that the cache reads at once. Each has some goroutines of
	// ours, of net/http's and of the hub's.
	client, other := g.origins["a.test"].up.(*asking), g.origins["b.test"].up.(*asking)
	if n := client.most.Load(); n > 256+64 {
		t.Errorf("the upstream was asked %d things at once", n)
	}
	if n := runtime.NumGoroutine() - idle; n > 10*256 {
		t.Errorf("%d goroutines wait for the upstream", n)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > heap+48<<20 {
		t.Errorf("%d MiB of heap, %d before", m.HeapAlloc>>20, heap>>20)
	}
	a.Heal()
	all.Wait()
	a.WaitIdle()
	client.Close() // its idle connections
	other.Close()
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > idle+16; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines are left, %d were there before", runtime.NumGoroutine(), idle)
		}
	}
}

// A crowd at an upstream that is well finds its turn: more than there are places, and
// each answer takes its time.
func TestACrowdAtAHealthyUpstreamIsServed(t *testing.T) {
	within(t, func(w *world) {
		w.hub.on("", func(context.Context) error { time.Sleep(100 * time.Millisecond); return nil })
		var all sync.WaitGroup
		for i := range 1000 {
			im := w.hub.push(w.t, fmt.Sprint("library/app:v", i), fmt.Sprint(i))
			all.Go(func() {
				if a, err := w.head(fmt.Sprint("library/app:v", i)); err != nil || a.Manifest.Digest != im.d {
					w.t.Error(err)
				}
			})
		}
		w.took(time.Second, all.Wait)
	}, withoutBucket)
}
