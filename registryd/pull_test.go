package registryd

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"hostlocal/manifest"
)

// A host is a whole registry, cache and all, behind its server.
type host struct {
	*tester
	*world
}

// newHost starts one without a bucket.
func newHost(t *testing.T) *host {
	w := &world{t: t, dir: t.TempDir(), hub: newHub(), other: newHub()}
	w.opt.Policies = []TagRule{{Upstream: "docker.io", Match: "*", Policy: Policy{TTL, time.Minute}}}
	w.start()
	h := &host{serve(t, newHandler(registryContents{w.g}, HandlerOptions{})), w}
	t.Cleanup(func() {
		h.shutdown()
		w.stop()
	})
	return h
}

// pullOver does what a container runtime does, with any of the ways to name the
// repository, and returns the sources of config and layer.
func (h *host) pullOver(prefix, query string, im image) (sources [2]string, err error) {
	get := func(method, what string) (*http.Response, []byte, error) {
		req, err := http.NewRequest(method, h.base+"/v2/"+prefix+"library/app/"+what+query, nil)
		if err != nil {
			return nil, nil, err
		}
		res, err := h.client.Do(req)
		if err != nil {
			return nil, nil, err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode != 200 {
			err = fmt.Errorf("%s: status %d: %s", what, res.StatusCode, body)
		}
		return res, body, err
	}
	res, _, err := get("HEAD", "manifests/v1")
	if err != nil {
		return sources, err
	}
	if res.Header.Get("Docker-Content-Digest") != im.d.String() || res.ContentLength != int64(len(im.body)) || res.Header.Get("Content-Type") != manifest.OCIManifest {
		return sources, fmt.Errorf("HEAD: %v", res.Header)
	}
	if _, body, err := get("GET", "manifests/"+im.d.String()); err != nil || !bytes.Equal(body, im.body) {
		return sources, fmt.Errorf("manifest: %d bytes, %w", len(body), err)
	}
	for i, want := range [][]byte{im.config, im.layer} {
		res, body, err := get("GET", "blobs/"+manifest.DigestOf(want).String())
		if err != nil || !bytes.Equal(body, want) {
			return sources, fmt.Errorf("blob: %d bytes, %w", len(body), err)
		}
		sources[i] = res.Header.Get("X-Registryd-Source")
	}
	return sources, nil
}

func TestFiftyColdClientsOfOneImageThenTheHubIsGone(t *testing.T) {
	h := newHost(t)
	im := h.hub.push(t, "library/app:v1", "pull")
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			prefix, query := "", "?ns=docker.io"
			switch i % 3 {
			case 1:
				prefix, query = "docker.io/", ""
			case 2:
				query = ""
			}
			if _, err := h.pullOver(prefix, query, im); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for op, n := range map[string]int{"GET": 1, "BLOB": 2} {
		if got := h.hub.count(op); got != n {
			t.Errorf("%d calls of %s, want %d: %q", got, op, n, h.hub.seen())
		}
	}
	before := h.hub.count("")
	h.hub.fail("", errOutage)
	for range 2 {
		sources, err := h.pullOver("", "?ns=docker.io", im)
		if err != nil || sources != [2]string{SourceDisk, SourceDisk} {
			t.Errorf("warm: %q, %v", sources, err)
		}
	}
	if n := h.hub.count("") - before; n != 0 {
		t.Errorf("a warm pull asked the hub %d times", n)
	}
	path := "/v2/library/app/blobs/" + im.layerDigest().String()
	g := h.tester.get(path, "Range: bytes=100-199")
	h.want(g, 206, fmt.Sprintf("Content-Range: bytes 100-199/%d", len(im.layer)))
	if !bytes.Equal(g.body, im.layer[100:200]) {
		t.Error("a range has other bytes")
	}
	h.wantError(h.tester.get(path+"?ns=evil.example"), 404, "NAME_UNKNOWN")
	h.wantError(h.tester.get("/v2/ghcr.io/other/app/blobs/"+im.layerDigest().String()), 404, "BLOB_UNKNOWN")
}

func TestWrongBytesReachNobodyAsWhole(t *testing.T) {
	h := newHost(t)
	im := h.hub.push(t, "library/app:v1", "wrong")
	key := "library/app@" + im.layerDigest().String()
	wrong := bytes.Clone(im.layer)
	wrong[len(wrong)/2] ^= 1
	h.hub.data.Lock()
	h.hub.blobs[key] = wrong
	h.hub.data.Unlock()
	path := "/v2/library/app/blobs/" + im.layerDigest().String()
	h.want(h.tester.get("/v2/library/app/manifests/v1"), 200)
	res, err := h.client.Get(h.base + path)
	if err == nil {
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode < 500 && err == nil {
			t.Errorf("status %d and all of %d bytes", res.StatusCode, len(body))
		}
	}
	h.hub.data.Lock()
	h.hub.blobs[key] = im.layer
	h.hub.data.Unlock()
	g := h.tester.get(path)
	h.want(g, 200)
	if g.err != nil || !bytes.Equal(g.body, im.layer) {
		t.Errorf("after the source was right: %d bytes, %v", len(g.body), g.err)
	}
}

func TestOutageWithNothingKnownIsAnError(t *testing.T) {
	h := newHost(t)
	h.hub.fail("", errOutage)
	h.wantError(h.tester.get("/v2/library/app/manifests/v1"), 503, "UNAVAILABLE")
	h.wantError(h.tester.get("/v2/library/app/blobs/"+someDigest.String()), 503, "UNAVAILABLE")
	h.hub.heal()
	h.wantError(h.tester.get("/v2/library/app/manifests/v1"), 404, "MANIFEST_UNKNOWN")
}
