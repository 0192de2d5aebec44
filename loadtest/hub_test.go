package loadtest

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"hostlocal/manifest"
)

// A hub is a small registry in memory that can misbehave: what it is asked goes
// through each of before, which may answer in its place.
type hub struct {
	*httptest.Server
	t     *testing.T
	blobs map[string][]byte // by digest, manifests too
	tags  map[string]string

	mu     sync.Mutex // guards all below
	before []func(w http.ResponseWriter, r *http.Request) bool
	log    []string // "GET /v2/..." with Range, in order
	header []http.Header
	conns  map[string]bool // remote addresses
}

func newHub(t *testing.T, layers ...int) *hub {
	t.Helper()
	h := &hub{t: t, blobs: map[string][]byte{}, tags: map[string]string{}, conns: map[string]bool{}}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	var descriptors []map[string]any
	for i, n := range layers {
		b := make([]byte, n)
		rand.NewChaCha8([32]byte{byte(i)}).Read(b)
		descriptors = append(descriptors, map[string]any{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": h.add(b), "size": n})
	}
	config := []byte(`{"architecture":"amd64","os":"linux"}`)
	m := h.document(map[string]any{"schemaVersion": 2, "mediaType": manifest.OCIManifest, "layers": descriptors,
		"config": map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": h.add(config), "size": len(config)}})
	p := manifest.Host()
	h.tags["v1"] = h.document(map[string]any{"schemaVersion": 2, "mediaType": manifest.OCIIndex, "manifests": []map[string]any{{
		"mediaType": manifest.OCIManifest, "digest": m, "size": len(h.blobs[m]),
		"platform": map[string]any{"os": p.OS, "architecture": p.Architecture, "variant": p.Variant}}}})
	return h
}

func (h *hub) add(b []byte) string {
	d := manifest.DigestOf(b).String()
	h.blobs[d] = b
	return d
}

func (h *hub) document(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.add(b)
}

// meddle puts f before the right answers.
func (h *hub) meddle(f func(w http.ResponseWriter, r *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before = append(h.before, f)
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.log = append(h.log, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Range")))
	h.header = append(h.header, r.Header)
	h.conns[r.RemoteAddr] = true
	before := h.before
	h.mu.Unlock()
	for _, f := range before {
		if f(w, r) {
			return
		}
	}
	h.right(w, r)
}

func (h *hub) right(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/")
	name := parts[len(parts)-1]
	if r.URL.Path == "/v2/" {
		return
	}
	if d, ok := h.tags[name]; ok {
		name = d
	}
	b, ok := h.blobs[name]
	if !ok {
		http.Error(w, "no such thing", http.StatusNotFound)
		return
	}
	if strings.Contains(r.URL.Path, "/manifests/") {
		var m struct{ MediaType string }
		json.Unmarshal(b, &m)
		w.Header().Set("Content-Type", m.MediaType)
	}
	w.Header().Set("Docker-Content-Digest", name)
	w.Header().Set("X-Registryd-Source", "disk")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

// layer returns the digest of the image's layer i.
func (h *hub) layer(i int) string {
	for _, b := range h.blobs {
		if m, err := manifest.Parse(b); err == nil && !m.IsIndex() {
			return m.Layers[i].Digest.String()
		}
	}
	h.t.Fatal("no manifest")
	return ""
}

// isLayer reports whether r asks for the image's layer i.
func (h *hub) isLayer(i int) func(r *http.Request) bool {
	d := h.layer(i)
	return func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, d) }
}

// requests returns what was asked, sorted out by substring.
func (h *hub) requests(containing string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.log {
		if strings.Contains(l, containing) {
			n++
		}
	}
	return n
}

// scenario returns one of n clients of that profile, at once.
func scenario(n int, profile string) Scenario {
	return Scenario{Name: "test", Seed: 1, Images: Images{Layers: []Size{1}}, Clients: Clients{Count: n, Profile: profile}, Timeout: time.Minute}
}

// storm returns a Storm of s against h.
func (h *hub) storm(s Scenario) *Storm {
	st := &Storm{Scenario: s, Targets: []Target{{URL: h.URL}}}
	for range s.Clients.Count {
		st.Jobs = append(st.Jobs, Job{Repo: "library/app", Tag: "v1"})
	}
	return st
}

// run carries s out against h.
func (h *hub) run(s Scenario) Measurement {
	h.t.Helper()
	m, err := h.storm(s).Run(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

// wantGood fails unless all pulls went well and all bytes were checked.
func wantGood(t *testing.T, m Measurement) {
	t.Helper()
	for _, f := range m.Failures {
		t.Errorf("%d x %s: %q", f.Count, f.Kind, f.Examples)
	}
	if m.Verified != m.Received || m.Received == 0 {
		t.Errorf("%d of %d bytes verified", m.Verified, m.Received)
	}
	if m.Wait.Count != len(m.Pulls) || m.Wait.P50 <= 0 || m.Wait.Max < m.Wait.P50 {
		t.Errorf("waits of %d pulls: %+v", len(m.Pulls), m.Wait)
	}
}

// wantFailure fails unless every pull failed in that way.
func wantFailure(t *testing.T, m Measurement, kind string) {
	t.Helper()
	if len(m.Failures) != 1 || m.Failures[0].Kind != kind || m.Failures[0].Count != len(m.Pulls) || len(m.Failures[0].Examples) == 0 {
		t.Errorf("not %d x %s: %+v", len(m.Pulls), kind, m.Failures)
	}
	if m.Wait.Count != 0 {
		t.Errorf("%d failed pulls have a wait", m.Wait.Count)
	}
}

func cut(w http.ResponseWriter) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		c.Close()
	}
}
