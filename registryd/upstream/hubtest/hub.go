// Package hubtest is an origin registry in the test's own process: it serves
// images over real sockets, counts what it was asked and what it sent, and breaks
// at the wire in the ways that registries do.
//
//	hub := hubtest.New(t)
//	img := hub.AddImage("library/app", "v1", hub.Layer(8<<20), hub.Layer(300))
//	hub.Fault(hubtest.Blob(img.Layers[0].Digest), hubtest.CutEvery(5<<20))
//	... pull ...
//	hub.Gets(img.Layers[0].Digest), hub.Sent(img.Layers[0].Digest)
//	hub.Heal()
//
// The hub itself is always right: a wrong byte comes from a Fault or from whoever
// is tested. Everything may be changed while requests run.
//
//	request ─> log ─> faults (a plan) ─> auth ─> route ─> body ─> conn
//	                                       │        └─ 307 ─> CDN
//	                                       └─ 401 ─> token server
package hubtest

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hostlocal/manifest"
)

// A Hub is one fake registry with, once somebody asks for them, its CDN and its
// token server. New starts it and the test's end stops it.
type Hub struct {
	URL  string // http://127.0.0.1:port or https://127.0.0.1:port, no slash at the end
	Host string // 127.0.0.1:port

	t        testing.TB
	ctx      context.Context // ends with the hub
	ca       *authority      // nil without TLS
	main     *server
	seed     uint64
	layers   atomic.Uint64 // how many Layer has made
	inflight sync.WaitGroup

	mu       sync.Mutex // guards what follows
	repos    map[string]*repository
	cdn      *server
	tokens   *server
	auth     *authState
	faults   []*Injected
	healed   chan struct{} // closed by Heal, then replaced: what stalls goes on
	total    *pacer
	linkSalt int // part of a CDN link's signature

	log counters
}

type repository struct {
	tags      map[string]manifest.Digest
	manifests map[manifest.Digest]stored
	blobs     map[manifest.Digest]Content
	forbidden bool
}

type stored struct {
	mediaType string
	body      []byte
}

// An Option changes how New starts a hub.
type Option func(*Hub)

// TLS makes the hub, its CDN and its token server speak https (HTTP/2 and
// HTTP/1.1) under a CA of the hub's own: see CAFile.
func TLS() Option { return func(h *Hub) { h.ca = newAuthority(h.t) } }

// Seed changes the bytes that Layer generates; the default is the same in each run.
func Seed(seed uint64) Option { return func(h *Hub) { h.seed = seed } }

// New starts a hub on a loopback port of its own.
func New(t testing.TB, opts ...Option) *Hub {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	h := &Hub{t: t, ctx: ctx, seed: 1, repos: map[string]*repository{}, healed: make(chan struct{})}
	h.log.init()
	for _, o := range opts {
		o(h)
	}
	h.main = h.serve(http.HandlerFunc(h.serveRegistry))
	h.URL, h.Host = h.main.url, h.main.host
	t.Cleanup(func() {
		cancel()
		h.main.close()
		h.mu.Lock()
		cdn, tokens := h.cdn, h.tokens
		h.mu.Unlock()
		for _, s := range []*server{cdn, tokens} {
			if s != nil {
				s.close()
			}
		}
		h.inflight.Wait()
	})
	return h
}

// CAFile writes the CA's certificate to a file of the test's and returns its
// path. It needs TLS.
func (h *Hub) CAFile() string {
	h.t.Helper()
	path := filepath.Join(h.t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, h.ca.pem, 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// Layer returns a blob of size bytes that no other call returns. It is not in the
// hub yet: give it to AddImage or AddBlob.
func (h *Hub) Layer(size int64) Content {
	return Generated(h.seed<<32+h.layers.Add(1), size)
}

// Layers is Layer for each size.
func (h *Hub) Layers(sizes ...int64) []Content {
	out := make([]Content, len(sizes))
	for i, n := range sizes {
		out[i] = h.Layer(n)
	}
	return out
}

func (h *Hub) repo(name string) *repository {
	r := h.repos[name]
	if r == nil {
		r = &repository{tags: map[string]manifest.Digest{}, manifests: map[manifest.Digest]stored{}, blobs: map[manifest.Digest]Content{}}
		h.repos[name] = r
	}
	return r
}

// AddBlob puts a blob into repo.
func (h *Hub) AddBlob(repo string, c Content) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.repo(repo).blobs[c.Digest] = c
}

// AddManifest puts any body into repo as a manifest, under tag unless that is
// empty, and returns its digest.
func (h *Hub) AddManifest(repo, tag, mediaType string, body []byte) manifest.Digest {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := manifest.DigestOf(body)
	r := h.repo(repo)
	r.manifests[d] = stored{mediaType, body}
	if tag != "" {
		r.tags[tag] = d
	}
	return d
}

// MoveTag makes tag of repo name the manifest d, which the repository has.
func (h *Hub) MoveTag(repo, tag string, d manifest.Digest) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.repo(repo).manifests[d]; !ok {
		h.t.Errorf("hubtest: MoveTag(%s, %s): the repository has no manifest %s", repo, tag, d)
	}
	h.repo(repo).tags[tag] = d
}

// DeleteTag makes tag of repo unknown. What it named is still there by digest.
func (h *Hub) DeleteTag(repo, tag string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.repo(repo).tags, tag)
}

// Forbid answers every request for repo with 403 from now on.
func (h *Hub) Forbid(repo string) { h.setForbidden(repo, true) }

// Allow takes Forbid back.
func (h *Hub) Allow(repo string) { h.setForbidden(repo, false) }

func (h *Hub) setForbidden(repo string, yes bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.repo(repo).forbidden = yes
}

// Down refuses connections from now on, and closes those that are open: nobody
// listens on the port any more, and nobody else gets it. Up or Heal brings the hub
// back on the same one.
func (h *Hub) Down() {
	h.t.Helper()
	if err := h.main.stop(); err != nil {
		h.t.Fatalf("hubtest: going down: %v", err)
	}
}

// Up ends Down.
func (h *Hub) Up() {
	h.t.Helper()
	if err := h.main.start(); err != nil {
		h.t.Fatalf("hubtest: listening on %s again: %v", h.Host, err)
	}
}

// Limit bounds what the hub and its CDN send in all, in bytes per second; 0
// removes the bound. The bound of one connection is the fault Rate.
func (h *Hub) Limit(bytesPerSecond int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.total = nil
	if bytesPerSecond > 0 {
		h.total = &pacer{rate: bytesPerSecond}
	}
}

// split takes the path after /v2/ apart: repository, what follows it, and the rest.
func split(path string) (repo, what, ref string) {
	for _, w := range []string{"/manifests/", "/blobs/", "/tags/"} {
		if i := strings.LastIndex(path, w); i > 0 {
			return path[:i], strings.Trim(w, "/"), path[i+len(w):]
		}
	}
	return "", "", ""
}
