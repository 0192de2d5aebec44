package registryd

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"

	"hostlocal/blobcache"
	"hostlocal/manifest"
)

// warmRegistry has pulled one image, library/app:v1.
func warmRegistry(t testing.TB) (*Registry, *hub, manifest.Digest, manifest.Digest) {
	dir := t.TempDir()
	cache, err := blobcache.New(dir, blobcache.Options{Budget: 64 << 20, ScrubRate: -1})
	if err != nil {
		t.Fatal(err)
	}
	up := newHub()
	g, err := New(Options{
		Names: &manifest.Names{Upstreams: []manifest.Upstream{{Name: "docker.io"}}, Default: "docker.io"},
		Cache: cache, Upstreams: map[string]Upstream{"docker.io": up},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Shutdown(context.Background())
		cache.Close()
	})
	layer := bytes.Repeat([]byte("layer"), 1<<20)
	config := []byte("{}")
	body, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": manifest.OCIManifest,
		"config": manifest.Descriptor{Digest: manifest.DigestOf(config), Size: int64(len(config))},
		"layers": []manifest.Descriptor{{Digest: manifest.DigestOf(layer), Size: int64(len(layer))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	d, l := manifest.DigestOf(body), manifest.DigestOf(layer)
	up.tags["library/app:v1"] = d
	up.manifests["library/app@"+d.String()] = body
	up.blobs["library/app@"+l.String()] = layer
	if err := warmManifest(g); err != nil {
		t.Fatal(err)
	}
	if err := cache.Put(l, bytes.NewReader(layer), int64(len(layer))); err != nil {
		t.Fatal(err)
	}
	return g, up, d, l
}

func warmManifest(g *Registry) error {
	repo, err := g.Resolve(context.Background(), "library/app", "")
	if err == nil {
		_, err = g.Manifest(context.Background(), repo, Ref{Tag: "v1"}, false)
	}
	return err
}

func TestAWarmManifestCostsOneAllocation(t *testing.T) {
	g, _, _, _ := warmRegistry(t)
	n := testing.AllocsPerRun(100, func() {
		if err := warmManifest(g); err != nil {
			t.Fatal(err)
		}
	})
	if n > 1 { // the repository's name
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkWarmManifestByTag(b *testing.B) {
	g, _, _, _ := warmRegistry(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := warmManifest(g); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWarmBlob(b *testing.B) {
	g, _, _, l := warmRegistry(b)
	repo, err := g.Resolve(context.Background(), "library/app", "")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		h, err := g.Blob(context.Background(), repo, l, 0, false)
		if err != nil {
			b.Fatal(err)
		}
		h.Close()
	}
}

func BenchmarkOpenInTheCacheAlone(b *testing.B) {
	g, _, _, l := warmRegistry(b)
	b.ReportAllocs()
	for b.Loop() {
		h, err := g.disk.Open(l)
		if err != nil {
			b.Fatal(err)
		}
		h.Close()
	}
}
