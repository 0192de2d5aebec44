package clients

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// hub plays docker.io and ghcr.io: a stock registry with real images behind a
// TLS listener of ours, which asks for a token as Docker Hub does, counts,
// and goes away on demand.
type hub struct {
	t     *testing.T
	stock *httputil.ReverseProxy

	gone     atomic.Bool  // connections are cut before the first byte
	silent   atomic.Bool  // they are taken, and that is all
	contacts atomic.Int64 // connections, those cut included

	mu      sync.Mutex       // guards what follows
	agents  map[string]int   // requests by the first word of User-Agent
	blobs   map[string]int64 // bytes of blob bodies sent, by digest
	holding map[string]hold  // where a blob's bytes stop
}

// hold stops a blob's bytes: after so many, over all requests, until released.
type hold struct {
	after    int64
	released chan struct{}
}

// hubAddr is every address, so that containers find it at their gateway.
const hubAddr = ":443"

// startHub returns a hub that serves until the test ends.
func startHub(t *testing.T) *hub {
	t.Helper()
	content := hubContent(t)
	const stock = "127.0.0.1:5500"
	stockRegistry(t, inFolder(content), stock)
	cert, err := authority()
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{t: t, agents: map[string]int{}, blobs: map[string]int64{}, holding: map[string]hold{}}
	h.stock = httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: stock})
	h.stock.ErrorLog = log.New(io.Discard, "", 0)
	l, err := net.Listen("tcp", hubAddr)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	go srv.Serve(tls.NewListener(doorkeeper{l, h}, &tls.Config{Certificates: []tls.Certificate{cert}}))
	t.Cleanup(func() { srv.Close() })
	return h
}

// doorkeeper counts who comes, and cuts the connection while the hub is gone.
type doorkeeper struct {
	net.Listener
	hub *hub
}

func (d doorkeeper) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		d.hub.contacts.Add(1)
		switch {
		case d.hub.gone.Load():
			c.Close()
		case d.hub.silent.Load():
			d.hub.t.Cleanup(func() { c.Close() })
		default:
			return &doorConn{c, d.hub}, nil
		}
	}
}

// doorConn is cut, kept alive or not, at its next read once the hub is gone.
type doorConn struct {
	net.Conn
	hub *hub
}

func (c *doorConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.hub.gone.Load() {
		c.hub.contacts.Add(1)
		c.Conn.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	agent, _, _ := strings.Cut(r.UserAgent(), " ")
	h.mu.Lock()
	h.agents[agent]++
	h.mu.Unlock()

	if r.URL.Path == "/token" {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"token":"of-the-hub","expires_in":300}`)
		return
	}
	if r.Header.Get("Authorization") != "Bearer of-the-hub" {
		repo := strings.TrimPrefix(r.URL.Path, "/v2/")
		repo, _, _ = strings.Cut(repo, "/manifests/")
		repo, _, _ = strings.Cut(repo, "/blobs/")
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:%s:pull"`, repo))
		if strings.HasPrefix(r.Host, "ghcr.io") {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:%s:pull"`, repo))
		}
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	// Each of the two has its own images, so that asking the wrong one shows.
	if path, ok := strings.CutPrefix(r.URL.Path, "/v2/"); ok && path != "" && strings.HasPrefix(path, "owner/") != strings.HasPrefix(r.Host, "ghcr.io") {
		http.NotFound(w, r)
		return
	}
	if _, digest, ok := strings.Cut(r.URL.Path, "/blobs/"); ok && r.Method == http.MethodGet {
		w = &meter{ResponseWriter: w, hub: h, digest: digest, leaves: r.Context().Done()}
	}
	h.stock.ServeHTTP(w, r)
}

// meter counts a blob's bytes and stops where the test says.
type meter struct {
	http.ResponseWriter
	hub    *hub
	digest string
	leaves <-chan struct{} // closed when the client is gone
}

func (m *meter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		n, wait := m.hub.admit(m.digest, len(p))
		if n > 0 {
			k, err := m.ResponseWriter.Write(p[:n])
			written += k
			if err != nil {
				return written, err
			}
			p = p[n:]
			continue
		}
		http.NewResponseController(m.ResponseWriter).Flush()
		select {
		case <-wait:
		case <-m.leaves:
			return written, net.ErrClosed
		}
	}
	return written, nil
}

// admit counts up to n bytes of a blob, as many as may go, or says what to
// wait for.
func (h *hub) admit(digest string, n int) (int, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if stop, ok := h.holding[digest]; ok {
		select {
		case <-stop.released:
		default:
			n = int(min(int64(n), stop.after-h.blobs[digest]))
			if n <= 0 {
				return 0, stop.released
			}
		}
	}
	h.blobs[digest] += int64(n)
	return n, nil
}

// holdAfter stops the blob's bytes at n until the returned function is called.
func (h *hub) holdAfter(digest string, n int64) (release func()) {
	released := make(chan struct{})
	h.mu.Lock()
	h.holding[digest] = hold{n, released}
	h.mu.Unlock()
	release = sync.OnceFunc(func() { close(released) })
	h.t.Cleanup(release)
	return release
}

// sent is how many bytes of the blob's bodies left the hub.
func (h *hub) sent(digest string) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.blobs[digest]
}

// wantFetchedOnce fails the test unless the bytes of each layer that left the
// hub are one layer, and at most so many to spare.
func (h *hub) wantFetchedOnce(t *testing.T, img v1.Image, spare int64) {
	t.Helper()
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range manifest.Layers {
		if sent := h.sent(layer.Digest.String()); sent < layer.Size || sent > layer.Size+spare {
			t.Errorf("the hub sent %d bytes of a layer of %d, want at most %d more", sent, layer.Size, spare)
		}
	}
}

// goAway makes the hub unreachable and returns how often it had been
// contacted until then.
func (h *hub) goAway() int64 {
	h.gone.Store(true)
	return h.contacts.Load()
}

// wantOnlyDaemons fails the test if anybody but registryd spoke to the hub: a
// client that fell back to it proves nothing about the mirror.
func (h *hub) wantOnlyDaemons() {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for agent, n := range h.agents {
		if !strings.HasPrefix(agent, "registryd") {
			h.t.Errorf("%d requests to the hub by %q, past the mirror", n, agent)
		}
	}
	if len(h.agents) == 0 {
		h.t.Error("nobody asked the hub; the first pull was not cold")
	}
}

// wantNoContact fails the test if the hub was contacted since goAway.
func (h *hub) wantNoContact(before int64) {
	h.t.Helper()
	if n := h.contacts.Load() - before; n > 0 {
		h.t.Errorf("%d contacts with the hub during a pull that the disk can serve", n)
	}
}
