// Package hub is a fake origin registry: it serves images over real sockets, counts
// what it was asked and what it sent, and breaks at the wire in the ways that
// registries do. Load tests have it as their upstream; registryd/upstream/hubtest is
// the same for tests.
//
//	h, err := hub.Start(hub.Shaped(hub.Shape{Token: true, Pulls: 100}))
//	defer h.Close()
//	img := h.AddImage("library/app", "v1", h.Layer(8<<20), h.Layer(300))
//	h.Fault(hub.Blob(img.Layers[0].Digest), hub.CutEvery(5<<20))
//	... pull ...
//	h.Gets(img.Layers[0].Digest), h.Sent(img.Layers[0].Digest)
//	h.Heal()
//
// The hub itself is always right: a wrong byte comes from a Fault or from whoever
// is tested. Everything may be changed while requests run. Blobs are generated as
// they are sent: a set of many gigabytes takes no memory.
//
//	request ─> log ─> faults (a plan) ─> line ─> limit ─> auth ─> route ─> body ─> conn
//	                                                       │        └─ 307 ─> CDN
//	                                                       └─ 401 ─> token server
package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"hostlocal/loadtest/line"
	"hostlocal/manifest"
)

// A Hub is one fake registry with its CDN and its token server. Start starts it and
// Close ends it.
type Hub struct {
	URL  string // http://127.0.0.1:port or https://127.0.0.1:port, no slash at the end
	Host string // 127.0.0.1:port

	ctx      context.Context // ends with the hub
	cancel   context.CancelFunc
	ca       *authority // nil without TLS
	main     *line.Server
	cdn      *line.Server
	tokens   *line.Server
	line     line.Line
	seed     uint64
	layers   atomic.Uint64 // how many Layer has made
	inflight sync.WaitGroup

	mu       sync.Mutex // guards what follows
	repos    map[string]*repository
	blobs    map[manifest.Digest]Content // of all repositories, for the CDN
	auth     *authState
	faults   []*Injected
	healed   chan struct{} // closed by Heal, then replaced: what stalls goes on
	total    *line.Pacer
	linkSalt int // part of a CDN link's signature
	toCDN    bool
	limit    limit

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

// An Option changes how Start starts a hub.
type Option func(*options)

type options struct {
	seed     uint64
	tls      bool
	listen   string
	remember int
	shape    Shape
}

// TLS makes the hub, its CDN and its token server speak https (HTTP/2 and
// HTTP/1.1) under a CA of the hub's own: see CA.
func TLS() Option { return func(o *options) { o.tls = true } }

// Seed changes the bytes that Layer generates; the default is the same in each run.
func Seed(seed uint64) Option { return func(o *options) { o.seed = seed } }

// Listen gives the registry's port a fixed address, as host:port. The CDN and the
// token server have loopback ports of their own, so that a hub that others reach
// can have neither.
func Listen(address string) Option { return func(o *options) { o.listen = address } }

// Remember keeps the first n requests one by one, with their headers, for Requests
// and Wait; about a kilobyte each. Without it there are counts only.
func Remember(n int) Option { return func(o *options) { o.remember = n } }

// Shaped gives the hub a shape from its start on, as SetShape does later.
func Shaped(s Shape) Option { return func(o *options) { o.shape = s } }

// sendBuffer bounds what the kernel keeps of one answer, in bytes: Linux would let
// it grow to 4 MiB, which is 4 GiB for a thousand clients that read slowly, and
// bytes that count as sent although their client has left.
const sendBuffer = 256 << 10

// Start starts a hub, on a loopback port of its own unless Listen says otherwise.
func Start(opts ...Option) (*Hub, error) {
	o := options{seed: 1}
	for _, f := range opts {
		f(&o)
	}
	h := &Hub{seed: o.seed, repos: map[string]*repository{}, blobs: map[manifest.Digest]Content{}, healed: make(chan struct{})}
	h.log.init(o.remember)
	if o.tls {
		ca, err := newAuthority()
		if err != nil {
			return nil, err
		}
		h.ca = ca
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	for _, s := range []struct {
		server  **line.Server
		listen  string
		handler http.HandlerFunc
	}{{&h.main, o.listen, h.serveRegistry}, {&h.cdn, "", h.serveCDN}, {&h.tokens, "", h.serveToken}} {
		lo := line.Options{Listen: s.listen, Handler: s.handler, Counts: &h.log.socket, Buffer: sendBuffer}
		if h.ca != nil {
			lo.TLS = h.ca.config
		}
		server, err := line.Listen(lo)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("starting the fake hub: %w", err), h.Close())
		}
		*s.server = server
	}
	h.URL, h.Host = h.main.URL, h.main.Host
	h.SetShape(o.shape)
	return h, nil
}

// Close ends the hub, its connections and what waits in them.
func (h *Hub) Close() error {
	h.cancel()
	var errs []error
	for _, s := range []*line.Server{h.main, h.cdn, h.tokens} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	h.inflight.Wait()
	return errors.Join(errs...)
}

// CA returns the certificate of the hub's CA in PEM; nil without TLS.
func (h *Hub) CA() []byte {
	if h.ca == nil {
		return nil
	}
	return h.ca.pem
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
	h.blobs[c.Digest] = c
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

// MoveTag makes tag of repo name the manifest d, which the repository must have.
func (h *Hub) MoveTag(repo, tag string, d manifest.Digest) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.repo(repo).manifests[d]; !ok {
		return fmt.Errorf("moving tag %s: %s has no manifest %s", tag, repo, d)
	}
	h.repo(repo).tags[tag] = d
	return nil
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
func (h *Hub) Down() error { return h.main.Down() }

// Up ends Down.
func (h *Hub) Up() error { return h.main.Up() }

// Limit bounds what the hub and its CDN send in all, in bytes per second; 0
// removes the bound. The bound of one connection is the fault Rate.
func (h *Hub) Limit(bytesPerSecond int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.total = nil
	if bytesPerSecond > 0 {
		h.total = &line.Pacer{Rate: bytesPerSecond}
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
