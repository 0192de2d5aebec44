package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What registryd would be if it lacked one thing: caches of some forty lines in
// front of an upstream that does not run yet.

// forwarding passes every request on, so that the upstream sends everything once
// for each client.
func forwarding(t *testing.T, upstream string) string {
	return serving(t, httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: upstream}))
}

// A memory is a cache that asks the upstream once for each path, clients waiting
// meanwhile, and keeps what it got.
type memory struct {
	upstream  string
	ranges    bool                        // a Range gets what it asks for
	confirm   bool                        // a tag is confirmed by the upstream on each request, however long that takes
	corrupt   func(path string, b []byte) // may change what is kept
	mu        sync.Mutex                  // guards kept
	kept      map[string]*sync.Once
	headers   map[string]http.Header
	bodies    map[string][]byte
	failed    map[string]error
	transport http.Transport
}

func (m *memory) start(t *testing.T) string {
	m.kept, m.headers, m.bodies, m.failed = map[string]*sync.Once{}, map[string]http.Header{}, map[string][]byte{}, map[string]error{}
	t.Cleanup(m.transport.CloseIdleConnections)
	return serving(t, m)
}

func (m *memory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if path == "/v2/" {
		return
	}
	_, tag, isManifest := strings.Cut(path, "/manifests/")
	if isManifest && m.confirm && !strings.HasPrefix(tag, "sha256:") {
		req, _ := http.NewRequestWithContext(r.Context(), "HEAD", "http://"+m.upstream+path, nil)
		req.Header["Accept"] = r.Header["Accept"]
		resp, err := m.transport.RoundTrip(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		resp.Body.Close()
	}
	m.mu.Lock()
	once := m.kept[path]
	if once == nil {
		once = new(sync.Once)
		m.kept[path] = once
	}
	m.mu.Unlock()
	once.Do(func() { m.fetch(path, r.Header["Accept"]) })
	m.mu.Lock()
	header, body, err := m.headers[path], m.bodies[path], m.failed[path]
	m.mu.Unlock()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	for _, k := range []string{"Content-Type", "Docker-Content-Digest"} {
		w.Header().Set(k, header.Get(k))
	}
	if !m.ranges {
		r.Header.Del("Range")
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(body)))
}

// fetch gets a path from the upstream, once.
func (m *memory) fetch(path string, accept []string) {
	req, _ := http.NewRequest("GET", "http://"+m.upstream+path, nil)
	req.Header["Accept"] = accept
	resp, err := m.transport.RoundTrip(req)
	var body []byte
	var header http.Header
	if err == nil {
		header = resp.Header
		body, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
	}
	if err == nil && m.corrupt != nil {
		m.corrupt(path, body)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.headers[path], m.bodies[path], m.failed[path] = header, body, err
}

// serving is where a handler listens.
func serving(t *testing.T, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// unusedHosts counts the addresses that unused has returned.
var unusedHosts atomic.Int32

// unused is an address on which nobody listens. Its host is nobody else's, so that the
// port is still free when somebody is to listen there: whoever asks for any port meanwhile
// is given one of 127.0.0.1.
func unused(t testing.TB) string {
	t.Helper()
	n := unusedHosts.Add(1)
	l, err := net.Listen("tcp", fmt.Sprintf("127.77.%d.%d:0", n/200, 1+n%200))
	check(t, err)
	defer l.Close()
	return l.Addr().String()
}

// flip changes a byte of every layer.
func flip(path string, b []byte) {
	if strings.Contains(path, "/blobs/") && len(b) > 1000 {
		b[len(b)/2] ^= 1
	}
}
