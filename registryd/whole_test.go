package registryd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"hostlocal/blobcache"
	"hostlocal/manifest"
	"hostlocal/registryd/upstream"
	"hostlocal/registryd/upstream/hubtest"
	"hostlocal/s3store"
)

// realHost is a Registry with nothing faked below it but the upstream's machine: real
// sockets, files, and a bucket in a folder that several hosts share.
type realHost struct {
	t     *testing.T
	cache *blobcache.Cache
	store *s3store.Store
	g     *Registry
	stop  func()
}

func newRealHost(t *testing.T, hub *hubtest.Hub, dir, bucketDir string) *realHost {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	client, err := upstream.New(upstream.Config{Name: "hub.test", URL: hub.URL})
	must(err)
	bucket, err := s3store.OpenBucket(t.Context(), s3store.Config{URL: "file://" + bucketDir})
	must(err)
	store := s3store.New(bucket, s3store.Options{Mirror: true})
	store.Start(context.Background())
	cache, err := blobcache.New(dir, blobcache.Options{Budget: 256 << 20, ScrubRate: -1, OnMismatch: func(d manifest.Digest, source string) {
		if source == SourceStore {
			store.Distrust(d)
		}
	}})
	must(err)
	g, err := New(Options{
		Names: &manifest.Names{Upstreams: []manifest.Upstream{{Name: "hub.test"}}, Default: "hub.test"},
		Cache: cache, Links: cache.Names(), Store: store, Mirror: true,
		Upstreams:   map[string]Upstream{"hub.test": client},
		Policies:    []TagRule{{Upstream: "hub.test", Policy: Policy{TTL, time.Hour}}},
		PendingFile: filepath.Join(dir, "writeback"),
	})
	must(err)
	g.Resume()
	h := &realHost{t: t, cache: cache, store: store, g: g}
	h.stop = sync.OnceFunc(func() {
		must(g.Shutdown(context.Background()))
		must(cache.Close())
		must(store.Close())
		client.Close()
	})
	t.Cleanup(func() { h.stop() })
	return h
}

// pull gets all of an image by its tag and checks every byte.
func (h *realHost) pull(img hubtest.Image) error {
	ctx := h.t.Context()
	repo, err := h.g.Resolve(ctx, img.Repo, "")
	if err != nil {
		return err
	}
	if _, err := h.g.Manifest(ctx, repo, Ref{Tag: img.Tag}, true); err != nil {
		return err
	}
	a, err := h.g.Manifest(ctx, repo, Ref{Digest: img.Digest}, false)
	if err != nil {
		return err
	}
	if !bytes.Equal(a.Manifest.Body, img.Body) {
		return fmt.Errorf("got manifest %s", a.Manifest.Digest)
	}
	for _, c := range children(a.Manifest) {
		b, err := h.g.Blob(ctx, repo, c.Digest, 0, false)
		if err != nil {
			return err
		}
		got := c.Digest.Algorithm().New()
		err = b.CopyRange(ctx, got, 0, -1)
		b.Close()
		if err != nil {
			return err
		}
		if d := c.Digest.Algorithm().Sum(got); d != c.Digest {
			return fmt.Errorf("got a blob %s, want %s", d, c.Digest)
		}
	}
	return nil
}

// wantStored waits until the bucket has all of img: longer than the 2 s that a pull is
// promised, to which TestAPullIsInTheBucketSoonAfter holds it, as the disk here may be slow.
func (h *realHost) wantStored(img hubtest.Image) {
	h.t.Helper()
	repo := "hub.test/" + img.Repo
	for deadline := time.Now().Add(15 * time.Second); ; {
		missing := h.missing(repo, img)
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("not in the bucket: %s; %+v", missing, h.g.Status().WriteBack)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (h *realHost) missing(repo string, img hubtest.Image) string {
	ctx := h.t.Context()
	if d, err := h.store.Tag(ctx, repo, img.Tag); err != nil || d != img.Digest {
		return "the tag"
	}
	if ok, err := h.store.HasManifest(ctx, repo, img.Digest); err != nil || !ok {
		return "the manifest"
	}
	m, err := manifest.Parse(img.Body)
	if err != nil {
		return err.Error()
	}
	for _, c := range children(m) {
		if ok, err := h.store.HasLayer(ctx, repo, c.Digest); err != nil || !ok {
			return "the link of " + c.Digest.String()
		}
		if size, err := h.store.StatBlob(ctx, c.Digest); err != nil || size != c.Size {
			return c.Digest.String()
		}
	}
	return ""
}

func TestAHundredClientsCostTheUpstreamOneImage(t *testing.T) {
	hub := hubtest.New(t)
	img := hub.AddImage("team/app", "v1", hub.Layers(2<<20, 300<<10, 77)...)
	h := newRealHost(t, hub, t.TempDir(), t.TempDir())
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if err := h.pull(img); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	hub.WaitIdle() // it counts a moment after it has sent
	if sent, once := hub.SentAll(), img.Bytes(); sent != once {
		t.Errorf("the upstream sent %d bytes, the image has %d", sent, once)
	}
	if n := hub.Count(hubtest.HeadManifest, hubtest.GetManifest); n != 2 {
		t.Errorf("%d requests for manifests, want a HEAD and a GET", n)
	}
	h.wantStored(img)
}

func TestTheNextHostPullsFromTheBucketAlone(t *testing.T) {
	hub := hubtest.New(t)
	img := hub.AddImage("team/app", "v1", hub.Layers(9<<20, 500)...)
	bucket := t.TempDir()
	first := newRealHost(t, hub, t.TempDir(), bucket)
	if err := first.pull(img); err != nil {
		t.Fatal(err)
	}
	first.wantStored(img)
	sent := hub.SentAll()
	dir := t.TempDir()
	second := newRealHost(t, hub, dir, bucket)
	if err := second.pull(img); err != nil {
		t.Fatal(err)
	}
	if hub.SentAll() != sent {
		t.Error("the upstream sent bytes again")
	}
	hub.Down()
	third := newRealHost(t, hub, t.TempDir(), bucket)
	if err := third.pull(img); err != nil {
		t.Errorf("with the upstream down: %v", err)
	}
	second.stop()
	again := newRealHost(t, hub, dir, t.TempDir())
	if err := again.pull(img); err != nil {
		t.Errorf("with upstream down and bucket empty, after a restart: %v", err)
	}
}

func TestAnUpstreamThatCutsIsResumedAndStored(t *testing.T) {
	hub := hubtest.New(t)
	img := hub.AddImage("team/app", "v1", hub.Layers(12<<20)...)
	hub.Fault(hubtest.Blobs(), hubtest.CutEvery(5<<20))
	h := newRealHost(t, hub, t.TempDir(), t.TempDir())
	if err := h.pull(img); err != nil {
		t.Fatal(err)
	}
	if sent, once := hub.SentAll(), img.Bytes(); sent > once*11/10 {
		t.Errorf("the upstream sent %d bytes, the image has %d", sent, once)
	}
	h.wantStored(img)
}

func TestWrongBytesOfAnUpstreamReachNeitherClientNorBucket(t *testing.T) {
	hub := hubtest.New(t)
	img := hub.AddImage("team/app", "v1", hub.Layers(12<<20)...)
	hub.Fault(hubtest.Blob(img.Layers[0].Digest), hubtest.Flip(3<<20))
	h := newRealHost(t, hub, t.TempDir(), t.TempDir())
	if err := h.pull(img); err == nil {
		t.Fatal("wrong bytes were served as whole")
	}
	if _, err := h.store.StatBlob(t.Context(), img.Layers[0].Digest); err == nil {
		t.Fatal("wrong bytes are in the bucket")
	}
	hub.Heal()
	if err := h.pull(img); err != nil {
		t.Fatalf("right again, but: %v", err)
	}
	h.wantStored(img)
}

func TestAWrongObjectInTheBucketIsReplaced(t *testing.T) {
	hub := hubtest.New(t)
	img := hub.AddImage("team/app", "v1", hub.Layers(12<<20)...)
	bucket := t.TempDir()
	first := newRealHost(t, hub, t.TempDir(), bucket)
	if err := first.pull(img); err != nil {
		t.Fatal(err)
	}
	first.wantStored(img)
	d := img.Layers[0].Digest
	object := filepath.Join(bucket, "docker/registry/v2/blobs", string(d.Algorithm()), d.Hex()[:2], d.Hex(), "data")
	right, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	wrong := bytes.Clone(right)
	wrong[7<<20] ^= 1
	if err := os.WriteFile(object, wrong, 0o644); err != nil {
		t.Fatal(err)
	}
	second := newRealHost(t, hub, t.TempDir(), bucket)
	if err := second.pull(img); err != nil {
		if err := second.pull(img); err != nil {
			t.Fatalf("the pull after the broken one: %v", err)
		}
	}
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if now, err := os.ReadFile(object); err == nil && bytes.Equal(now, right) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the wrong object is still there; %+v", second.g.Status().WriteBack)
		}
	}
}

func TestAFillGoesOnAfterARestartAndIsStored(t *testing.T) {
	hub := hubtest.New(t)
	img := hub.AddImage("team/app", "v1", hub.Layers(12<<20)...)
	gate := hubtest.NewGate()
	hub.Fault(hubtest.Blob(img.Layers[0].Digest), hubtest.HoldAfter(6<<20, gate))
	dir, bucket := t.TempDir(), t.TempDir()
	h := newRealHost(t, hub, dir, bucket)
	repo, err := h.g.Resolve(t.Context(), img.Repo, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.g.Manifest(t.Context(), repo, Ref{Tag: img.Tag}, false); err != nil {
		t.Fatal(err)
	}
	b, err := h.g.Blob(t.Context(), repo, img.Layers[0].Digest, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.CopyRange(t.Context(), io.Discard, 0, 5<<20); err != nil {
		t.Fatal(err)
	}
	b.Close()
	h.stop()
	gate.Open()
	hub.Heal()
	again := newRealHost(t, hub, dir, bucket)
	if err := again.pull(img); err != nil {
		t.Fatal(err)
	}
	again.wantStored(img)
	if sent := hub.Sent(img.Layers[0].Digest); sent > img.Layers[0].Size*11/10 {
		t.Errorf("the upstream sent %d bytes of a blob of %d", sent, img.Layers[0].Size)
	}
}
