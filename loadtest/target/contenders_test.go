package target

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hostlocal/cmd/testdeps/need"
	"hostlocal/manifest"
)

// An origin has one blob and counts its bytes.
type origin struct {
	*httptest.Server
	digest manifest.Digest
	body   []byte
	sent   atomic.Int64
}

func newOrigin(t *testing.T) *origin {
	o := &origin{body: make([]byte, 3<<20)}
	for i := range o.body {
		o.body[i] = byte(i >> 8)
	}
	o.digest = manifest.DigestOf(o.body)
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, o.digest.String()) {
			w.Header().Set("ETag", `"`+o.digest.String()+`"`)
			http.ServeContent(count{w, &o.sent}, r, "", time.Time{}, strings.NewReader(string(o.body)))
		}
	}))
	t.Cleanup(o.Close)
	return o
}

type count struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c count) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b))) // before: who has the bytes may look at the count
	n, err := c.ResponseWriter.Write(b)
	c.n.Add(int64(n - len(b)))
	return n, err
}

// get returns the status, the header and the body's digest of what a fleet says.
func get(t *testing.T, url string) (*http.Response, manifest.Digest) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, manifest.DigestOf(b)
}

func started(t *testing.T, name string, o Options) *Fleet {
	t.Helper()
	o.Dir = t.TempDir()
	f, err := Start(context.Background(), name, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func TestNginxCachesWithOneFetchForAll(t *testing.T) {
	need.Binary(t, "nginx")
	o := newOrigin(t)
	f := started(t, "nginx", Options{Upstream: o.URL, Cache: 64 << 20})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if resp, d := get(t, f.Targets[0].URL+"/v2/a/b/blobs/"+o.digest.String()); d != o.digest {
				t.Errorf("%s with %s, want %s", resp.Status, d, o.digest)
			}
		})
	}
	all.Wait()
	if got := o.sent.Load(); got != int64(len(o.body)) {
		t.Errorf("the origin sent %d bytes, want %d once", got, len(o.body))
	}
	if !strings.Contains(f.Version, "nginx/") {
		t.Errorf("version %q", f.Version)
	}
	u := f.sample(time.Now())
	if u.Disk < int64(len(o.body)) {
		t.Errorf("%d bytes on its disk, want the blob's", u.Disk)
	}
}

func TestNginxHasFilesInPlace(t *testing.T) {
	need.Binary(t, "nginx")
	dir, body := t.TempDir(), []byte(`{"schemaVersion":2}`)
	d := manifest.DigestOf(body)
	if err := os.MkdirAll(filepath.Join(dir, "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sha256", d.Hex()), body, 0o444); err != nil {
		t.Fatal(err)
	}
	f := started(t, "nginx", Options{Files: &Files{Dir: dir, Manifests: []Manifest{{"a/b", "v1", d, manifest.OCIManifest}}}})
	for _, path := range []string{"manifests/v1", "manifests/" + d.String(), "blobs/" + d.String()} {
		resp, got := get(t, f.Targets[0].URL+"/v2/a/b/"+path)
		if got != d {
			t.Errorf("%s: %s", path, resp.Status)
		}
		if strings.HasPrefix(path, "manifests") && (resp.Header.Get("Content-Type") != manifest.OCIManifest || resp.Header.Get("Docker-Content-Digest") != d.String()) {
			t.Errorf("%s: %v", path, resp.Header)
		}
	}
}

func TestStockRegistryMirrorsTheOrigin(t *testing.T) {
	binary := need.Binary(t, "registry")
	o := newOrigin(t)
	f := started(t, "distribution", Options{Upstream: o.URL, Binaries: map[string]string{"distribution": binary}})
	if resp, d := get(t, f.Targets[0].URL+"/v2/a/b/blobs/"+o.digest.String()); d != o.digest {
		t.Errorf("%s with %s, want %s", resp.Status, d, o.digest)
	}
	if !strings.Contains(f.Version, "3.1.2") || strings.HasPrefix(f.Version, "/") {
		t.Errorf("version %q", f.Version)
	}
	f.askRoutines(t.Context())
	if u := f.sample(time.Now()); u.Goroutines == 0 {
		t.Error("it did not say its goroutines")
	}
}

// What a pushed-to registry would be is no proxy.
func TestStockRegistryThatIsPushedToIsNoProxy(t *testing.T) {
	if text := distributionConfig("127.0.0.1:1", "127.0.0.1:2", "/c", Options{Push: true}); strings.Contains(text, "proxy") {
		t.Error(text)
	}
}

func TestZotIsToldToSyncOnDemand(t *testing.T) {
	text, err := zotConfig("127.0.0.1:5000", "/cache", Options{Upstream: "http://hub/"})
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		HTTP       struct{ Address, Port string }
		Extensions struct {
			Sync struct {
				Registries []struct {
					URLs     []string
					OnDemand bool
				}
			}
		}
	}
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(c); got != "{{127.0.0.1 5000} {{[{[http://hub] true}]}}}" {
		t.Errorf("got %s", got)
	}
}
