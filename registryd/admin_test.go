package registryd

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"hostlocal/manifest"
)

type fakeOperator struct {
	status Status
	asked  []string
}

func (f *fakeOperator) Status() Status { return f.status }

func (f *fakeOperator) Explain(_ context.Context, name string) (Explanation, error) {
	if name == "bad//name" {
		return Explanation{}, fmt.Errorf("%w: %q", manifest.ErrName, name)
	}
	return Explanation{Name: name, Why: "because"}, nil
}

func (f *fakeOperator) Refresh(_ context.Context, image string) (Refreshed, error) {
	f.asked = append(f.asked, "refresh "+image)
	return Refreshed{Repository: image}, nil
}

func (f *fakeOperator) Evict(_ context.Context, image string) (Evicted, error) {
	f.asked = append(f.asked, "evict "+image)
	if image == "gone" {
		return Evicted{}, fmt.Errorf("nothing of it is here: %w", fs.ErrNotExist)
	}
	return Evicted{Repository: image, Blobs: 2}, nil
}

// askAdmin sends a request to the admin API; headers are "Key: value".
func askAdmin(o *fakeOperator, options AdminOptions, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "127.0.0.1:5001"
	for _, kv := range headers {
		k, v, _ := strings.Cut(kv, ": ")
		if k == "Host" {
			r.Host = v
		} else {
			r.Header.Set(k, v)
		}
	}
	w := httptest.NewRecorder()
	newAdmin(o, options).ServeHTTP(w, r)
	return w
}

func TestAdminAnswers(t *testing.T) {
	o := &fakeOperator{status: Status{Upstreams: []UpstreamStatus{{Name: "docker.io"}}}}
	options := AdminOptions{Metrics: NewMetrics(nil), Version: "v1", Cache: func() any { return map[string]int{"bytes": 5} }}
	for _, c := range []struct {
		method, target, body string
		status               int
		contains             string
	}{
		{"GET", "/healthz", "", 200, "ok"},
		{"GET", "/readyz", "", 200, `"trouble": []`},
		{"GET", "/metrics", "", 200, "registryd_cache_bytes 0"},
		{"GET", "/debug/pprof/", "", 200, "goroutine"},
		{"GET", "/debug/pprof/goroutine?debug=1", "", 200, "goroutine profile"},
		{"GET", "/api/v1/status", "", 200, `"version": "v1"`},
		{"GET", "/api/v1/status", "", 200, `"name": "docker.io"`},
		{"GET", "/api/v1/status", "", 200, `"bytes": 5`},
		{"GET", "/api/v1/resolve?name=debian:12", "", 200, `"why": "because"`},
		{"GET", "/api/v1/resolve?name=bad//name", "", 400, `not a repository name`},
		{"GET", "/api/v1/resolve", "", 400, "which name?"},
		{"POST", "/api/v1/refresh", `{"image": "debian:12"}`, 200, `"repository": "debian:12"`},
		{"POST", "/api/v1/evict", `{"image": "debian:12"}`, 200, `"blobs": 2`},
		{"POST", "/api/v1/evict", `{"image": "gone"}`, 404, "nothing of it is here"},
		{"POST", "/api/v1/evict", `{"image": ""}`, 400, "which image?"},
		{"POST", "/api/v1/evict", `{"imgae": "x"}`, 400, "which image?"},
		{"POST", "/api/v1/evict", `{"image": "` + strings.Repeat("x", 100_000) + `"}`, 400, "which image?"},
		{"GET", "/api/v1/evict", "", 405, ""},
		{"GET", "/nothing", "", 404, ""},
	} {
		w := askAdmin(o, options, c.method, c.target, c.body)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.contains) {
			t.Errorf("%s %s %.50s: %d %.300s", c.method, c.target, c.body, w.Code, w.Body)
		}
	}
	if fmt.Sprint(o.asked) != "[refresh debian:12 evict debian:12 evict gone]" {
		t.Errorf("%q", o.asked)
	}
}

func TestReadyNamesTheTroubleAndStaysReady(t *testing.T) {
	o := &fakeOperator{status: Status{
		Store:     StoreStatus{Configured: true, Failures: 3, Trouble: "refused", Since: time.Unix(0, 0)},
		Upstreams: []UpstreamStatus{{Name: "docker.io", Trouble: "time-out"}, {Name: "ghcr.io"}},
		WriteBack: WriteBackStatus{Pending: 7, Trouble: "denied"},
	}}
	w := askAdmin(o, AdminOptions{Trouble: func() []string { return []string{"scan: under way"} }}, "GET", "/readyz", "")
	var got Readiness
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 || !got.Ready {
		t.Fatalf("%d %s %v", w.Code, w.Body, err)
	}
	want := []string{"store: refused (since 1970-01-01T00:00:00Z)", "upstream docker.io: time-out", "write-back: denied (7 pending)", "scan: under way"}
	if fmt.Sprint(got.Trouble) != fmt.Sprint(want) {
		t.Errorf("%q", got.Trouble)
	}
}

func TestAdminRefusesOtherSites(t *testing.T) {
	for _, c := range []struct {
		headers []string
		status  int
	}{
		{nil, 200},
		{[]string{"Host: localhost:5001"}, 200},
		{[]string{"Host: [::1]:5001"}, 200},
		{[]string{"Host: Node1.Corp:5001"}, 200},
		{[]string{"Origin: http://127.0.0.1:5001", "Sec-Fetch-Site: same-origin"}, 200},
		{[]string{"Host: evil.example"}, 421},
		{[]string{"Host: 127.0.0.1.evil.example:5001"}, 421},
		{[]string{"Host: node1.corp.evil.example"}, 421},
		{[]string{"Origin: http://evil.example"}, 403},
		{[]string{"Origin: null"}, 403},
		{[]string{"Origin: http://127.0.0.1:5000"}, 403},
		{[]string{"Sec-Fetch-Site: cross-site"}, 403},
		{[]string{"Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors"}, 403},
	} {
		for _, method := range []string{"GET", "POST"} {
			o := &fakeOperator{}
			target, body := "/readyz", ""
			if method == "POST" {
				target, body = "/api/v1/evict", `{"image": "x"}`
			}
			w := askAdmin(o, AdminOptions{Names: []string{"node1.corp"}}, method, target, body, c.headers...)
			if w.Code != c.status || (c.status != 200 && len(o.asked) > 0) {
				t.Errorf("%s %q: %d %s", method, c.headers, w.Code, w.Body)
			}
		}
	}
	// A link that somebody follows may be followed, but does nothing.
	follow := []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"}
	if w := askAdmin(&fakeOperator{}, AdminOptions{}, "GET", "/readyz", "", follow...); w.Code != 200 {
		t.Errorf("a link: %d", w.Code)
	}
	if w := askAdmin(&fakeOperator{}, AdminOptions{}, "POST", "/api/v1/evict", `{"image": "x"}`, follow...); w.Code != 403 {
		t.Errorf("a form: %d", w.Code)
	}
}

func TestAdminOverAUnixSocketHasNoName(t *testing.T) {
	r := httptest.NewRequest("GET", "http://whatever/healthz", nil)
	for network, want := range map[string]int{"unix": 200, "tcp": 421} {
		w := httptest.NewRecorder()
		at := &net.UnixAddr{Name: "/run/admin.sock", Net: network}
		newAdmin(&fakeOperator{}, AdminOptions{}).ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, at)))
		if w.Code != want {
			t.Errorf("%s: %d", network, w.Code)
		}
	}
}
