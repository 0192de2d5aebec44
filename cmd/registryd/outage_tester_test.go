package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

// together runs the cases at once, however few processors there are: they wait for
// most of their time.
func together[C any](t *testing.T, cases map[string]C, run func(*testing.T, C)) {
	t.Helper()
	var all sync.WaitGroup
	for name, c := range cases {
		all.Go(func() { t.Run(name, func(t *testing.T) { run(t, c) }) })
	}
	all.Wait()
}

// reconfigure changes the text of the configuration, for the next start.
func (h *host) reconfigure(oldnew ...string) {
	h.Helper()
	text, err := os.ReadFile(h.cfg)
	if err != nil {
		h.Fatal(err)
	}
	changed := strings.NewReplacer(oldnew...).Replace(string(text))
	if changed == string(text) {
		h.Fatalf("there is nothing like %q in the configuration", oldnew)
	}
	if err := os.WriteFile(h.cfg, []byte(changed), 0o600); err != nil {
		h.Fatal(err)
	}
}

// withTTL is newHost with tags that are believed for so long.
func withTTL(t testing.TB, ttl time.Duration, options ...func(*host)) *host {
	t.Helper()
	h := newHost(t, options...)
	url := fmt.Sprintf("{url: %q", h.up.URL)
	h.reconfigure(url, fmt.Sprintf(`%s, tags: [{match: "*", policy: ttl, ttl: %s}]`, url, ttl))
	h.restart()
	return h
}

// named has counted the names that were given to upstreams.
var named atomic.Int64

// byName has the daemon reach its upstream by a name of its own, and returns it.
func (h *host) byName() string {
	h.Helper()
	name := fmt.Sprintf("hub%d.test", named.Add(1))
	domains.set(name, here)
	h.reconfigure("http://127.0.0.1:", "http://"+name+":")
	h.restart()
	return name
}

// age has the daemon, which is stopped, believe that it confirmed its tags that
// long ago: the links' times say so.
func (h *host) age(d time.Duration) {
	h.Helper()
	links, err := filepath.Glob(filepath.Join(h.dir, "repositories/docker.io/*/*/_manifests/tags/*/current/link"))
	if err != nil || len(links) == 0 {
		h.Fatalf("no tag is kept on disk (%v)", err)
	}
	then := time.Now().Add(-d)
	for _, l := range links {
		if err := os.Chtimes(l, then, then); err != nil {
			h.Fatal(err)
		}
	}
}

// An answer is a response with its body read.
type answer struct {
	*http.Response
	body []byte
	took time.Duration
}

// ask sends one request, as docker does, and wants an answer.
func (h *host) ask(method, path string) answer {
	h.Helper()
	a, err := h.try(method, path)
	if err != nil {
		h.Fatalf("%s %s: %v, after %v", method, path, err, a.took)
	}
	return a
}

// try is ask for a goroutine of the test's.
func (h *host) try(method, path string) (a answer, err error) {
	req, err := http.NewRequestWithContext(h.Context(), method, h.url+path, nil)
	if err != nil {
		return a, err
	}
	req.Header.Set("Accept", manifestTypes)
	watch := startWatch()
	defer func() { a.took = watch.took() }()
	if a.Response, err = docker("").http.Do(req); err != nil {
		return a, err
	}
	defer a.Body.Close()
	a.body, err = io.ReadAll(a.Body)
	return a, err
}

// tag asks what the image's tag stands for.
func (h *host) tag(method string, image hubtest.Image) answer {
	h.Helper()
	return h.ask(method, "/v2/"+image.Repo+"/manifests/"+image.Tag)
}

// wantStale asks for the image's tag, which must be answered with what was last
// known, and with a warning.
func (h *host) wantStale(method string, image hubtest.Image, within time.Duration) {
	h.Helper()
	a := h.tag(method, image)
	if a.StatusCode != http.StatusOK {
		h.Fatalf("%s of a known tag: %s: %s", method, a.Status, a.body)
	}
	if got := a.Header.Get("Docker-Content-Digest"); got != image.Digest.String() {
		h.Errorf("%s of a known tag: %s, want %s", method, got, image.Digest)
	}
	if w := a.Header.Get("Warning"); !strings.HasPrefix(w, `299 - "`) {
		h.Errorf("%s of a tag that cannot be confirmed has the warning %q", method, w)
	}
	if method == http.MethodGet && !bytes.Equal(a.body, image.Body) {
		h.Errorf("GET of a known tag: wrong bytes")
	}
	if a.took > within {
		h.Errorf("%s of a known tag took %v, want at most %v", method, a.took, within)
	}
}

// wantFresh asks for the image's tag, which must be this image and confirmed.
func (h *host) wantFresh(image hubtest.Image) {
	h.Helper()
	a := h.tag(http.MethodGet, image)
	if a.StatusCode != http.StatusOK || !bytes.Equal(a.body, image.Body) {
		h.Fatalf("tag %s: %s, digest %s, want %s", image.Name(), a.Status, a.Header.Get("Docker-Content-Digest"), image.Digest)
	}
	if w := a.Header.Get("Warning"); w != "" {
		h.Errorf("tag %s was confirmed, and warns: %s", image.Name(), w)
	}
}

// wantError checks an error's status and form.
func (h *host) wantError(a answer, status ...int) {
	h.Helper()
	var e struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(a.body, &e); a.Request.Method != http.MethodHead && (err != nil || len(e.Errors) == 0 || e.Errors[0].Code == "") {
		h.Errorf("%s: %s, and the body is not an error in OCI form: %q", a.Request.URL, a.Status, a.body)
	}
	for _, s := range status {
		if a.StatusCode == s {
			return
		}
	}
	h.Errorf("%s: %s, want one of %v: %s", a.Request.URL, a.Status, status, a.body)
}

// awaitImage waits until all of the image is on the daemon's disk.
func (h *host) awaitImage(image hubtest.Image) {
	h.Helper()
	for _, d := range digests(image) {
		h.awaitKept(d)
	}
}

// awaitWithin is await with a bound of its own.
func (h *host) awaitWithin(most time.Duration, what string, ok func() bool) {
	h.Helper()
	for deadline := time.Now().Add(most); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.Fatalf("waited %v in vain for %s", most, what)
		}
	}
}

// digests are those of the image's objects.
func digests(image hubtest.Image) []manifest.Digest {
	all := []manifest.Digest{image.Digest, image.Config.Digest}
	for _, l := range image.Layers {
		all = append(all, l.Digest)
	}
	return all
}

// trouble is what /readyz names. It must be ready.
func (h *host) trouble() []string {
	h.Helper()
	resp, err := http.Get(h.admin + "/readyz")
	if err != nil {
		h.Fatal(err)
	}
	defer resp.Body.Close()
	var r struct {
		Ready   bool
		Trouble []string
	}
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil || resp.StatusCode != http.StatusOK || !r.Ready {
		h.Errorf("/readyz: %s, %+v, %v", resp.Status, r, err)
	}
	return r.Trouble
}

// complains reports whether /readyz names the part.
func (h *host) complains(part string) bool {
	h.Helper()
	for _, line := range h.trouble() {
		if strings.HasPrefix(line, part) {
			return true
		}
	}
	return false
}

// warnings are the lines of the log above level info.
func (r *recorder) warnings() (lines []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.lines {
		if strings.HasPrefix(l, "WARN") || strings.HasPrefix(l, "ERROR") {
			lines = append(lines, l)
		}
	}
	return lines
}
