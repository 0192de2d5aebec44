package registryd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hostlocal/blobcache"
	"hostlocal/manifest"
)

// world is a host with its cache folder, its bucket and its upstreams, in a bubble
// of its own time.
type world struct {
	t      *testing.T
	dir    string
	hub    *hub // docker.io
	other  *hub // ghcr.io
	bucket *memStore
	opt    Options

	cache *blobcache.Cache
	g     *Registry
}

// within runs f in a world. Everything of it has ended when f has.
func within(t *testing.T, f func(w *world), opts ...func(*world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, dir: dir, hub: newHub(), other: newHub(), bucket: newMemStore()}
		w.opt.Mirror = true
		w.opt.Policies = []TagRule{{Upstream: "docker.io", Match: "*", Policy: Policy{TTL, time.Minute}}}
		for _, o := range opts {
			o(w)
		}
		w.start()
		defer func() { w.stop() }()
		f(w)
	})
}

// withoutBucket has the world have none.
func withoutBucket(w *world) { w.bucket = nil }

// policy gives the tags of docker.io one policy.
func policy(p Policy) func(*world) {
	return func(w *world) { w.opt.Policies = []TagRule{{Upstream: "docker.io", Policy: p}} }
}

func (w *world) start() {
	w.t.Helper()
	cache, err := blobcache.New(w.dir, blobcache.Options{Budget: 64 << 20, ScrubRate: -1})
	if err != nil {
		w.t.Fatal(err)
	}
	links := cache.Names()
	o := w.opt
	o.Names = &manifest.Names{
		Upstreams: []manifest.Upstream{{Name: "docker.io"}, {Name: "ghcr.io"}},
		Own:       []string{"own/*"}, Default: "docker.io",
	}
	o.Cache, o.Links = cache, links
	o.Upstreams = map[string]Upstream{"docker.io": w.hub, "ghcr.io": w.other}
	if w.bucket != nil && o.Store == nil {
		o.Store = w.bucket
	}
	o.PendingFile = filepath.Join(w.dir, "pending")
	if w.g, err = New(o); err != nil {
		w.t.Fatal(err)
	}
	w.cache = cache
	w.g.Resume()
}

func (w *world) stop() {
	w.t.Helper()
	if err := w.g.Shutdown(context.Background()); err != nil {
		w.t.Error(err)
	}
	if err := w.cache.Close(); err != nil {
		w.t.Error(err)
	}
}

// restart is a new process on the same folder.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

// image is one with a config and a layer.
type image struct {
	body, config, layer []byte
	d                   manifest.Digest
}

// newImage makes one whose bytes come from seed.
func newImage(t *testing.T, seed string) image {
	t.Helper()
	im := image{config: []byte(`{"seed":"` + seed + `"}`), layer: bytes.Repeat([]byte(seed+" "), 100<<10/(len(seed)+1))}
	blob := func(mediaType string, b []byte) map[string]any {
		return map[string]any{"mediaType": mediaType, "digest": manifest.DigestOf(b).String(), "size": len(b)}
	}
	var err error
	im.body, err = json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": manifest.OCIManifest,
		"config": blob("application/vnd.oci.image.config.v1+json", im.config),
		"layers": []any{blob("application/vnd.oci.image.layer.v1.tar+gzip", im.layer)},
	})
	if err != nil {
		t.Fatal(err)
	}
	im.d = manifest.DigestOf(im.body)
	return im
}

func (im image) layerDigest() manifest.Digest  { return manifest.DigestOf(im.layer) }
func (im image) configDigest() manifest.Digest { return manifest.DigestOf(im.config) }

// push puts an image into a hub under name, "library/app:v1".
func (h *hub) push(t *testing.T, name, seed string) image {
	im := newImage(t, seed)
	repo, _, _ := strings.Cut(name, ":")
	h.data.Lock()
	defer h.data.Unlock()
	h.tags[name] = im.d
	h.manifests[repo+"@"+im.d.String()] = im.body
	h.blobs[repo+"@"+im.layerDigest().String()] = im.layer
	h.blobs[repo+"@"+im.configDigest().String()] = im.config
	return im
}

// push puts an image into the bucket under name, "docker.io/library/app:v1".
func (s *memStore) push(t *testing.T, name, seed string) image {
	im := newImage(t, seed)
	repo, tag, _ := strings.Cut(name, ":")
	s.data.Lock()
	defer s.data.Unlock()
	s.tags[tagKey{repo, tag}] = im.d
	s.revisions[content{repo, im.d}] = true
	for _, b := range [][]byte{im.body, im.config, im.layer} {
		s.blobs[manifest.DigestOf(b)] = b
	}
	s.layers[content{repo, im.layerDigest()}], s.layers[content{repo, im.configDigest()}] = true, true
	return im
}

// repo resolves a name as a client would ask for it.
func (w *world) repo(name string) Repository {
	w.t.Helper()
	r, err := w.g.Resolve(w.t.Context(), name, "")
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// get asks for "library/app:v1" or "library/app@sha256:..." with a GET.
func (w *world) get(name string) (Answer, error) { return w.ask(name, false) }

// head is get with a HEAD.
func (w *world) head(name string) (Answer, error) { return w.ask(name, true) }

func (w *world) ask(name string, headOnly bool) (Answer, error) {
	w.t.Helper()
	r, err := manifest.ParseReference(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.g.Manifest(w.t.Context(), w.repo(r.Repository), Ref{Tag: r.Tag, Digest: r.Digest}, headOnly)
}

// mustGet is get, of which im comes.
func (w *world) mustGet(name string, im image) Answer {
	w.t.Helper()
	a, err := w.get(name)
	if err != nil {
		w.t.Fatalf("get %s: %v", name, err)
	}
	w.wantImage(a, im)
	return a
}

func (w *world) wantImage(a Answer, im image) {
	w.t.Helper()
	if a.Manifest.Digest != im.d {
		w.t.Fatalf("got %s, want %s", a.Manifest.Digest, im.d)
	}
}

// blob reads a whole blob.
func (w *world) blob(repo string, d manifest.Digest) ([]byte, error) {
	b, err := w.g.Blob(w.t.Context(), w.repo(repo), d, 0, false)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	var buf bytes.Buffer
	err = b.CopyRange(w.t.Context(), &buf, 0, -1)
	return buf.Bytes(), err
}

// pull is what docker does: HEAD, GET, config and layer.
func (w *world) pull(name string, im image) {
	w.t.Helper()
	a, err := w.head(name)
	if err != nil {
		w.t.Fatalf("head %s: %v", name, err)
	}
	w.wantImage(a, im)
	repo, _, _ := strings.Cut(name, ":")
	w.mustGet(repo+"@"+im.d.String(), im)
	for _, d := range []manifest.Digest{im.configDigest(), im.layerDigest()} {
		if b, err := w.blob(repo, d); err != nil || d.Verify(b) != nil {
			w.t.Fatalf("blob %s: %v", d, err)
		}
	}
}

func (w *world) wantMiss(err error) {
	w.t.Helper()
	if !errors.Is(err, fs.ErrNotExist) {
		w.t.Fatalf("got %v, want a miss", err)
	}
}

// wantOutage checks that err is neither a miss nor a refusal.
func (w *world) wantOutage(err error) {
	w.t.Helper()
	if err == nil || answered(err) {
		w.t.Fatalf("got %v, want an outage", err)
	}
}

// wantCalls checks how often op was called.
func (w *world) wantCalls(c *calls, op string, n int) {
	w.t.Helper()
	if got := c.count(op); got != n {
		w.t.Fatalf("%d calls of %s, want %d; all calls:\n%s", got, op, n, strings.Join(c.seen(), "\n"))
	}
}

// took checks how long f takes in the world's time.
func (w *world) took(atMost time.Duration, f func()) {
	w.t.Helper()
	start := time.Now()
	f()
	if d := time.Since(start); d > atMost {
		w.t.Fatalf("took %v, want at most %v", d, atMost)
	}
}
