package registryd

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hostlocal/blobcache"
	"hostlocal/manifest"
	"hostlocal/registryd/upstream"
)

// pushLarge puts a manifest of a little more than size bytes into a hub.
func (h *hub) pushLarge(t *testing.T, name, seed string, size int) image {
	im := newImage(t, seed)
	im.body = append([]byte(`{"annotations":{"filler":"`+strings.Repeat("x", size)+`"},`), im.body[1:]...)
	im.d = manifest.DigestOf(im.body)
	repo, _, _ := strings.Cut(name, ":")
	h.data.Lock()
	defer h.data.Unlock()
	h.tags[name] = im.d
	h.manifests[repo+"@"+im.d.String()] = im.body
	return im
}

func TestLargeManifestsAreReadFewAtATimeAndSmallOnesDoNotWait(t *testing.T) {
	within(t, func(w *world) {
		for i := range 8 {
			w.hub.pushLarge(w.t, fmt.Sprintf("library/huge:v%d", i), fmt.Sprint(i), 3<<20)
		}
		large := w.other.pushLarge(w.t, "x/huge:v1", "other", 3<<20)
		small := w.hub.push(w.t, "library/app:v1", "one")
		var reading atomic.Int64
		gate := make(chan struct{})
		open := sync.OnceFunc(func() { close(gate) })
		defer open() // or a failure would wait for ever
		w.hub.reading = func() {
			if reading.Add(1) <= 2 {
				<-gate
			}
		}
		var got, refused atomic.Int64
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				_, err := w.get(fmt.Sprintf("library/huge:v%d", i))
				switch {
				case err == nil:
					got.Add(1)
				case restFor(err) > 0:
					refused.Add(1)
				default:
					w.t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := reading.Load(); n != 2 {
			w.t.Fatalf("%d are being read", n)
		}
		w.took(0, func() {
			w.mustGet("library/app:v1", small)
			if _, err := w.get("ghcr.io/x/huge:v1"); err != nil {
				w.t.Fatalf("another upstream's large manifest: %v", err)
			}
			if _, err := w.get("ghcr.io/x/huge@" + large.d.String()); err != nil {
				w.t.Fatal(err)
			}
		})
		time.Sleep(roomWait)
		synctest.Wait()
		if n := refused.Load(); n != 6 {
			w.t.Fatalf("%d of 6 were told that there is no room", n)
		}
		open()
		all.Wait()
		if n := got.Load(); n != 2 {
			w.t.Fatalf("got %d", n)
		}
		for i := range 8 {
			if _, err := w.get(fmt.Sprintf("library/huge:v%d", i)); err != nil {
				w.t.Fatal(err)
			}
		}
	}, withoutBucket)
}

func TestALargeManifestIsSentFromItsFile(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.pushLarge(w.t, "library/huge:v1", "one", 1<<20)
		h := NewHandler(w.g, HandlerOptions{})
		ask := func(method, ref, rng string) *httptest.ResponseRecorder {
			req := httptest.NewRequest(method, "http://127.0.0.1/v2/library/huge/manifests/"+ref, nil)
			if rng != "" {
				req.Header.Set("Range", rng)
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			if ct := rec.Header().Get("Content-Type"); ct != manifest.OCIManifest {
				w.t.Errorf("%s %s: Content-Type %q", method, ref, ct)
			}
			return rec
		}
		for range 2 {
			for _, ref := range []string{"v1", im.d.String()} {
				if rec := ask("GET", ref, ""); rec.Code != 200 || !bytes.Equal(rec.Body.Bytes(), im.body) {
					w.t.Errorf("GET: %d, %d bytes", rec.Code, rec.Body.Len())
				}
				if rec := ask("HEAD", ref, ""); rec.Code != 200 || rec.Header().Get("Content-Length") != fmt.Sprint(len(im.body)) {
					w.t.Errorf("HEAD: %d, %v", rec.Code, rec.Header())
				}
				if rec := ask("GET", ref, "bytes=5-9"); rec.Code != 206 || !bytes.Equal(rec.Body.Bytes(), im.body[5:10]) {
					w.t.Errorf("range: %d %q", rec.Code, rec.Body)
				}
			}
		}
		a, err := w.get("library/huge:v1")
		if err != nil || a.Large == nil || a.Large.File() == nil || a.Manifest.Body != nil {
			w.t.Errorf("answer %+v, %v", a, err)
		}
		a.Close()
	}, withoutBucket)
}

// Forty different manifests of 4 MiB at once, each twice in memory when it is parsed.
func TestManyLargeManifestsAtOnceTakeLittleMemory(t *testing.T) {
	const tags, size = 40, 4<<20 - 4096
	filler := bytes.Repeat([]byte("x"), size)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"schemaVersion":2,"mediaType":%q,"manifests":[],"annotations":{"tag":%q,"filler":"`, manifest.OCIIndex, r.URL.Path)
		w.Write(filler)
		fmt.Fprint(w, `"}}`)
	}))
	defer server.Close()
	client, err := upstream.New(upstream.Config{Name: "a.test", URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	cache, err := blobcache.New(t.TempDir(), blobcache.Options{Budget: 512 << 20, ScrubRate: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	g, err := New(Options{Names: &manifest.Names{Upstreams: []manifest.Upstream{{Name: "a.test"}}}, Cache: cache,
		Upstreams: map[string]Upstream{"a.test": client}})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Shutdown(context.Background())

	alive := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, peak := alive(), int64(0)
	var all sync.WaitGroup
	var answers atomic.Int64
	for i := range tags {
		all.Go(func() {
			defer answers.Add(1)
			repo := newRepository(manifest.Name{Host: "a.test", Path: "library/huge"}, "")
			a, err := g.Manifest(t.Context(), repo, Ref{Tag: fmt.Sprint("v", i)}, false)
			if err != nil && answered(err) {
				t.Error(err)
			}
			a.Close()
		})
	}
	for answers.Load() < tags {
		peak = max(peak, alive())
		time.Sleep(time.Millisecond)
	}
	all.Wait()
	t.Logf("%d MiB", (peak-before)>>20)
	if peak-before > 80<<20 {
		t.Errorf("%d MiB are alive while %d MiB of manifests are read", (peak-before)>>20, tags*size>>20)
	}
}
