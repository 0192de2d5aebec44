package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"hostlocal/registryd/upstream/hubtest"
)

// TestContract holds the built daemon to what tests, scripts and other people's
// tools depend on: a case for each promise, by its sockets and files alone. What
// takes its time, as an upstream that stalls does, is in outage_*_test.go; that a
// fresh clone builds is shown by every run of CI.
func TestContract(t *testing.T) {
	for name, holds := range map[string]func(*testing.T){
		"without a file it runs on the embedded default":            contractDefaults,
		"the environment sets scalar keys, and only the file lists": contractEnvironment,
		"one message names every problem":                           contractProblems,
		"a cache larger than the disk is a warning":                 contractLargeCache,
		"it is ready with bucket and upstreams down":                contractReadyAlone,
		"nothing is written but into its folders":                   contractFolders,
		"only the cache's folder is locked":                         contractLock,
		"SIGTERM ends it, and the next start goes on":               contractStop,
		"the documented configuration is one":                       contractSample,
		"blobs lie under their digest":                              contractDisk,
		"X-Registryd-Source says where the bytes were":              contractSource,
		"X-Registryd-Source says what is not kept":                  contractUncached,
		"what is not confirmed carries a Warning":                   contractWarning,
		"an outage is an error before the first byte":               contractOutage,
		"an outage is a broken connection after it":                 contractBroken,
		"a mismatch is an error, once":                              contractMismatch,
		"/v2/ answers GET and HEAD":                                 contractBase,
		"hostile paths get an answer":                               contractHostile,
		"what was pulled is in the bucket within 2 s":               contractBucket,
		"health, readiness and status":                              contractAdmin,
		"the metrics have their names":                              contractMetrics,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			holds(t)
		})
	}
}

func contractDefaults(t *testing.T) {
	s := newSubject(t)
	s.args = nil
	shown, err := s.command("config", "show").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"listen: [127.0.0.1:5000] # default", "admin: [127.0.0.1:5001] # default", "mirror: false # default", "default_upstream: docker.io # default"} {
		if !strings.Contains(string(shown), want) {
			t.Errorf("%q is not in\n%s", want, shown)
		}
	}
	// Only the ports are moved: somebody may have a registry on 5000.
	s.env = append(s.env, "REGISTRYD_LISTEN=127.0.0.1:0", "REGISTRYD_ADMIN=unix://"+s.dir+"/a.sock")
	s.start()
	if a := s.ask(http.MethodGet, "/v2/"); a.StatusCode != http.StatusOK {
		t.Errorf("/v2/: %s", a.Status)
	}
	want := []string{"docker.io", "gcr.io", "ghcr.io", "mcr.microsoft.com", "public.ecr.aws", "quay.io", "registry.k8s.io"}
	if got := s.upstreams(); !reflect.DeepEqual(got, want) {
		t.Errorf("the upstreams are %v, want %v", got, want)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "home/.cache/registryd")); err != nil {
		t.Errorf("the cache is not in the user's cache folder: %v", err)
	}
}

// upstreams are the names that the status page has.
func (s *subject) upstreams() (names []string) {
	s.Helper()
	var status struct{ Upstreams []struct{ Name string } }
	if err := json.Unmarshal(s.onAdmin("/api/v1/status"), &status); err != nil {
		s.Fatal(err)
	}
	for _, u := range status.Upstreams {
		names = append(names, u.Name)
	}
	return names
}

func contractEnvironment(t *testing.T) {
	s := newSubject(t)
	cache, store := filepath.Join(s.dir, "other-cache"), filepath.Join(s.dir, "other-store")
	s.env = append(s.env, "REGISTRYD_CACHE_DIR="+cache, "REGISTRYD_STORE_URL=file://"+store, "REGISTRYD_UPSTREAMS=quay.io")
	s.start()
	img := s.image(1000)
	s.pull()
	s.cache = cache
	s.awaitFile(img.Layers[0])
	if _, err := os.Stat(filepath.Join(s.dir, "store")); err == nil {
		t.Error("the store of the file was used, not the environment's")
	}
	if got := s.upstreams(); !reflect.DeepEqual(got, []string{"docker.io"}) {
		t.Errorf("the upstreams are %v, want those of the file, which replace the default ones", got)
	}
}

func contractProblems(t *testing.T) {
	s := newSubject(t, "keep_free: 0", "keep_free: much, kep_free: 0", "/cache,", "/config.yaml,")
	var said bytes.Buffer
	cmd := s.command("serve")
	cmd.Stderr = &said
	if err := cmd.Run(); err == nil {
		t.Fatal("it started")
	}
	for _, want := range []string{`unknown key "cache.kep_free"`, `cache.keep_free: "much"`, "cache.dir: " + s.dir + "/config.yaml is a file"} {
		if strings.Count(said.String(), want) != 1 {
			t.Errorf("%q is not in the one message\n%s", want, &said)
		}
	}
}

func contractLargeCache(t *testing.T) {
	s := running(t, "64MiB", "900TiB")
	s.stop()
	if !strings.Contains(s.log.String(), "level=WARN") || !strings.Contains(s.log.String(), "cache.size is 900TiB") {
		t.Errorf("no warning in\n%s", &s.log)
	}
}

func contractReadyAlone(t *testing.T) {
	dead := unused(t)
	s := newSubject(t)
	s.up.Down()
	s.env = append(s.env, "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=y",
		"REGISTRYD_STORE_URL=s3://images", "REGISTRYD_STORE_S3_ENDPOINT=http://"+dead, "REGISTRYD_STORE_S3_REGION=us-east-1")
	s.start()
	s.onAdmin("/readyz")
	wantOutage(t, s.ask(http.MethodGet, "/v2/library/app/manifests/v1"))
	var ready struct {
		Ready   bool
		Trouble []string
	}
	if err := json.Unmarshal(s.onAdmin("/readyz"), &ready); err != nil || !ready.Ready {
		t.Fatalf("readyz: %+v, %v", ready, err)
	}
	for _, want := range []string{"store", "upstream docker.io"} {
		if !slices.ContainsFunc(ready.Trouble, func(line string) bool { return strings.HasPrefix(line, want) }) {
			t.Errorf("/readyz does not name %s: %q", want, ready.Trouble)
		}
	}
}

func contractFolders(t *testing.T) {
	s := running(t)
	img := s.image(1000)
	s.pull()
	s.awaitFile(img.Layers[0])
	s.stop()
	if left := leftIn(t, filepath.Join(s.dir, "home")); len(left) > 0 {
		t.Errorf("in its home and working directory it left %v", left)
	}
	got := leftIn(t, s.dir)
	if want := []string{"cache", "config.yaml", "home", "notify", "store", "tmp"}; !reflect.DeepEqual(got, want) {
		t.Errorf("it left %v, want %v", got, want)
	}
}

func contractLock(t *testing.T) {
	s := running(t)
	img := s.image(1000)
	s.pull()

	other := newSubject(t, "/a.sock", "/b.sock")
	other.env = append(other.env, "REGISTRYD_CACHE_DIR="+s.cache)
	out, err := other.command("serve").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "cache.dir "+s.cache+" is another daemon's") {
		t.Errorf("a second daemon on one cache: %v, %s", err, out)
	}

	neighbour := newSubject(t)
	neighbour.up.Down()
	neighbour.env = append(neighbour.env, "REGISTRYD_STORE_URL=file://"+s.store)
	s.awaitStored(img)
	neighbour.start()
	if p := neighbour.pull(); p.digest != img.Digest {
		t.Errorf("a second daemon on one store pulled %s, want %s", p.digest, img.Digest)
	}
}

func contractStop(t *testing.T) {
	s := running(t)
	img := s.image(8 << 20)
	layer, gate := img.Layers[0], hubtest.NewGate()
	s.up.Fault(hubtest.Blob(layer.Digest), hubtest.HoldAfter(1<<20, gate))
	s.ask(http.MethodGet, "/v2/library/app/manifests/v1")
	open, err := docker("http://"+s.address).open(t.Context(), "library/app", layer.Digest, "")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := open.want(layer.Slice(0, 64<<10)); err != nil {
		t.Fatal(err)
	}

	watch := startWatch()
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.await("the door to close", func() bool {
		c, err := net.Dial("tcp", s.address)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if took := watch.took(); took > noise {
		t.Errorf("connections were accepted for %v", took)
	}
	s.stop()
	if took := watch.took(); took > 5*time.Second+noise {
		t.Errorf("it took %v to go", took)
	}
	if _, err := os.Stat(s.blobFile(layer.Digest)); err == nil {
		t.Fatal("the blob is complete already")
	}
	gate.Open()
	s.up.Heal()
	s.start()
	s.awaitFile(layer) // nobody asks for it
}

// await polls for what has no gate, and is bounded.
func (s *subject) await(what string, ok func() bool) {
	s.Helper()
	for end := time.Now().Add(startLimit); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("waited in vain for %s", what)
		}
	}
}

// documented is the configuration that the contract shows, on other folders.
const documented = `
listen: [127.0.0.1:5000, 'unix://%[1]s/r.sock']   # also unix:///path, systemd's socket, or a list
admin: 127.0.0.1:5001             # /healthz /readyz /metrics /debug/pprof /ui/ /api/v1/...
names: []                         # what others call this registry, as ?ns= or host: registry.corp
own: []                           # patterns of repositories that are always the bucket's own: team/*
log: {level: info, format: text}  # or json; a line per request is at level debug, or in an access log file if one is named
cache: {dir: %[1]s/cache, size: 50GiB, keep_free: 10%%}   # size also as 80%%
store:
  url: s3://images/prefix         # or file:///var/lib/registryd
  mirror: true                    # keep mirrored content in the store too
  s3: {endpoint: http://127.0.0.1:9000, region: us-east-1, client: minio, path_style: true}   # credentials: the SDKs' usual chain (AWS_ACCESS_KEY_ID, ...)
upstreams:
  docker.io: {url: https://registry-1.docker.io, hosts: [registry-1.docker.io, index.docker.io], tags: [{match: "*", policy: ttl, ttl: 1m}]}
  example.internal: {url: http://127.0.0.1:15000}
default_upstream: docker.io
`

func contractSample(t *testing.T) {
	s := newSubject(t)
	s.configure(fmt.Sprintf(documented, s.dir))
	if out, err := s.command("config", "check").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func contractDisk(t *testing.T) {
	s := running(t)
	img := s.image(100_000, 200_000, 300_000)
	got, right, wrong := img.Layers[0], img.Layers[1], img.Layers[2]
	s.ask(http.MethodGet, "/v2/library/app/manifests/v1")
	s.blob(got.Digest)
	s.awaitFile(got)

	place := func(name string, b []byte) {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	place(s.blobFile(right.Digest), right.Bytes())
	flipped := wrong.Bytes()
	flipped[150_000] ^= 1
	place(s.blobFile(wrong.Digest), flipped)

	a := s.blob(right.Digest)
	wantSource(t, a, "disk")
	if !bytes.Equal(a.body, right.Bytes()) {
		t.Error("the right file came as other bytes")
	}
	a = s.blob(wrong.Digest)
	if a.StatusCode != http.StatusOK || !bytes.Equal(a.body, wrong.Bytes()) || a.Header.Get("X-Registryd-Source") == "disk" {
		t.Errorf("the wrong file: %s from %s, right bytes: %v", a.Status, a.Header.Get("X-Registryd-Source"), bytes.Equal(a.body, wrong.Bytes()))
	}
	s.awaitFile(wrong)
}

func contractSource(t *testing.T) {
	s := running(t)
	img := s.image(100_000)
	manifests, blob := "/v2/library/app/manifests/v1", "/v2/library/app/blobs/"+img.Layers[0].Digest.String()
	wantSource(t, s.ask(http.MethodGet, manifests), "fill")
	wantSource(t, s.ask(http.MethodHead, blob), "upstream") // nothing was fetched for it
	wantSource(t, s.ask(http.MethodGet, blob), "fill")
	s.awaitFile(img.Layers[0])
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		wantSource(t, s.ask(method, manifests), "disk")
		wantSource(t, s.ask(method, "/v2/library/app/manifests/"+img.Digest.String()), "disk")
		wantSource(t, s.ask(method, blob), "disk")
	}
}

func contractUncached(t *testing.T) {
	s := running(t, "64MiB", "8MiB")
	img := s.image(16<<20, 100_000)
	s.ask(http.MethodGet, "/v2/library/app/manifests/v1")
	large := img.Layers[0]
	a := s.blob(large.Digest)
	wantSource(t, a, "upstream")
	if !bytes.Equal(a.body, large.Bytes()) {
		t.Error("what passed through has other bytes")
	}

	roomy := running(t)
	img = roomy.up.AddImage("library/app", "v1", roomy.up.Layers(16<<20)...)
	roomy.pull()
	roomy.awaitStored(img)
	small := newSubject(t, "64MiB", "8MiB")
	small.env = append(small.env, "REGISTRYD_STORE_URL=file://"+roomy.store)
	small.up.Down()
	small.start()
	small.ask(http.MethodGet, "/v2/library/app/manifests/v1")
	a = small.blob(img.Layers[0].Digest)
	wantSource(t, a, "store")
	if !bytes.Equal(a.body, img.Layers[0].Bytes()) {
		t.Error("what passed through from the bucket has other bytes")
	}
}

func contractWarning(t *testing.T) {
	s := running(t, `{url: "`, `{tags: [{match: "*", policy: always}], url: "`)
	s.image(1000)
	manifests := "/v2/library/app/manifests/v1"
	if a := s.ask(http.MethodGet, manifests); a.Header.Get("Warning") != "" {
		t.Errorf("what was just confirmed warns: %s", a.Header.Get("Warning"))
	}
	s.up.Down()
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		a := s.ask(method, manifests)
		if w := a.Header.Values("Warning"); a.StatusCode != http.StatusOK || len(w) != 1 || !regexp.MustCompile(`^299 - ".+"$`).MatchString(w[0]) {
			t.Errorf("%s: %s with Warning %q", method, a.Status, w)
		}
		if a.took > 2*time.Second+noise {
			t.Errorf("%s: took %v", method, a.took)
		}
	}
}

func contractOutage(t *testing.T) {
	s := running(t)
	img := s.image(1000)
	s.ask(http.MethodGet, "/v2/library/app/manifests/v1")
	s.up.Fault(hubtest.All(), hubtest.Status(http.StatusInternalServerError))
	wantOutage(t, s.ask(http.MethodGet, "/v2/library/other/manifests/v1"))
	wantOutage(t, s.blob(img.Layers[0].Digest))
	s.up.Heal()
	if a := s.blob(img.Layers[0].Digest); a.StatusCode != http.StatusOK {
		t.Errorf("with the upstream back: %s: %s", a.Status, a.body)
	}
	s.up.Down()
	wantOutage(t, s.ask(http.MethodGet, "/v2/library/third/manifests/v1"))
	wantOutage(t, s.blob(img.Config.Digest))
}

func contractBroken(t *testing.T) {
	s := running(t)
	img := s.image(4 << 20)
	layer, gate := img.Layers[0], hubtest.NewGate()
	defer gate.Open()
	s.ask(http.MethodGet, "/v2/library/app/manifests/v1")
	s.up.Fault(hubtest.Blob(layer.Digest), hubtest.HoldAfter(1<<20, gate))
	open, err := docker("http://"+s.address).open(t.Context(), "library/app", layer.Digest, "")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := open.want(layer.Slice(0, 64<<10)); err != nil {
		t.Fatal(err)
	}
	s.up.Down()
	wrong, n, err := layer.FirstWrong(64<<10, open)
	if err == nil || wrong >= 0 || n >= layer.Size-64<<10 {
		t.Errorf("the body ended with %v after %d bytes more, the first wrong one at %d", err, n, wrong)
	}
}

func contractMismatch(t *testing.T) {
	s := running(t)
	img := s.image(200_000)
	layer := img.Layers[0]
	s.ask(http.MethodGet, "/v2/library/app/manifests/v1")
	s.up.Fault(hubtest.Blob(layer.Digest), hubtest.Flip(100_000))
	a, err := s.try(http.MethodGet, "/v2/library/app/blobs/"+layer.Digest.String())
	if err == nil && a.StatusCode < 500 {
		t.Errorf("a wrong blob came whole: %s, %d bytes", a.Status, len(a.body))
	}
	if a.took > 2*time.Second+noise {
		t.Errorf("the end came after %v", a.took)
	}
	var told statusError
	if _, err := docker("http://"+s.address).open(t.Context(), "library/app", layer.Digest, "1000-"); !errors.As(err, &told) || told.status != http.StatusServiceUnavailable {
		t.Errorf("a client that asks for the rest of what was wrong: %v, want 503", err)
	}
	s.up.Heal()
	if a := s.blob(layer.Digest); a.StatusCode != http.StatusOK || !bytes.Equal(a.body, layer.Bytes()) {
		t.Errorf("the next request: %s: %.200s", a.Status, a.body)
	}
}

func contractBase(t *testing.T) {
	s := running(t)
	s.up.Down()
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		if a := s.ask(method, "/v2/"); a.StatusCode != http.StatusOK || a.took > noise {
			t.Errorf("%s /v2/: %s after %v", method, a.Status, a.took)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, "BREW"} {
		a := s.ask(method, "/v2/")
		if a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Allow") == "" {
			t.Errorf("%s /v2/: %s, Allow %q", method, a.Status, a.Header.Get("Allow"))
		}
		wantOCIError(t, a)
	}
}

func contractHostile(t *testing.T) {
	s := running(t)
	for _, path := range []string{
		"/v2/../../etc/passwd", "/v2/%2e%2e/%2e%2e/etc/passwd", "/v2/a/%00/manifests/x", "/v2/a%2fb/manifests/x", "/v2/%zz", "/v2//manifests/x",
		"/v2/a/manifests/..", "/v2/a/manifests/\x01", "/v2/a/manifests/" + strings.Repeat("t", 5000), "/v2/" + strings.Repeat("n/", 3000) + "manifests/x",
		"/v2/a/blobs/sha256:../../../etc/passwd", "/v2/a/blobs/sha256:" + strings.Repeat("A", 64), "/v2/a/blobs/md5:" + strings.Repeat("0", 32),
		"/v2/a/manifests/x?ns=http://169.254.169.254/", "/v2/a/manifests/x?ns=a&ns=b", "/v2/a/manifests/x?ns=%0d%0aX:1", "/v2/a/tags/list?n=-1",
		"//v2/", "http://elsewhere.test/v2/elsewhere.test/a/manifests/x", "*", "/v2/elsewhere.test/a/manifests/x", "/v2/127.0.0.1:22/a/manifests/x",
		"/" + strings.Repeat("x", 20<<10),
	} {
		if line := s.raw("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(line, "HTTP/1.1 4") {
			t.Errorf("%.60q: %q, want a 4xx answer", path, line)
		}
	}
	for _, request := range []string{
		"GET /v2/ HTTP/1.1\r\n\r\n", "GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nConnection: close\r\n\r\n",
		"GET /v2/ HTTP/1.1\r\nHost: rebound.example.com\r\nConnection: close\r\n\r\n",
		"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("y", 32<<10) + "\r\n\r\n", "\x16\x03\x01\x02\x00\r\n\r\n",
	} {
		if line := s.raw(request); !strings.HasPrefix(line, "HTTP/1.1 4") && !strings.HasPrefix(line, "HTTP/1.0 4") {
			t.Errorf("%.60q: %q, want a 4xx answer", request, line)
		}
	}
	if n := s.up.Count(); n != 0 {
		t.Errorf("the upstream was asked %d times", n)
	}
}

// awaitStored waits until the bucket has the image whole, tag included, and returns
// how long that took.
func (s *subject) awaitStored(img hubtest.Image) time.Duration {
	s.Helper()
	watch := startWatch()
	root := filepath.Join(s.store, "docker/registry/v2")
	for _, c := range append(slices.Clone(img.Layers), img.Config, hubtest.Literal(img.Body)) {
		s.await("the blob in the bucket", func() bool {
			b, err := os.ReadFile(filepath.Join(root, "blobs", string(c.Digest.Algorithm()), c.Digest.Hex()[:2], c.Digest.Hex(), "data"))
			return err == nil && bytes.Equal(b, c.Bytes())
		})
	}
	s.await("the tag in the bucket", func() bool {
		b, err := os.ReadFile(filepath.Join(root, "repositories/docker.io", img.Repo, "_manifests/tags", img.Tag, "current/link"))
		return err == nil && string(b) == img.Digest.String()
	})
	return watch.took()
}

func contractBucket(t *testing.T) {
	s := running(t)
	img := s.image(1<<20, 3<<20)
	s.pull()
	if took := s.awaitStored(img); took > 2*time.Second+noise {
		t.Errorf("the bucket had it after %v", took)
	}
}

func contractAdmin(t *testing.T) {
	s := running(t)
	s.onAdmin("/healthz")
	s.onAdmin("/readyz")
	s.onAdmin("/debug/pprof/")
	var status map[string]any
	if err := json.Unmarshal(s.onAdmin("/api/v1/status"), &status); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"cache", "store", "upstreams"} {
		if status[key] == nil {
			t.Errorf("the status has no %s", key)
		}
	}
}

func contractMetrics(t *testing.T) {
	s := running(t)
	img := s.image(100_000)
	s.pull()
	s.awaitStored(img)
	s.blob(img.Layers[0].Digest)
	text := s.onAdmin("/metrics")
	for _, want := range []string{
		`registryd_served_bytes_total{source="disk"}`, `registryd_served_bytes_total{source="fill"}`,
		`registryd_requests_total{code="200",route="blob"}`,
		`registryd_upstream_requests_total{code="200",kind="blob",upstream="docker.io"}`,
		`registryd_upstream_bytes_total{upstream="docker.io"}`,
		`registryd_store_requests_total{code="[0-9]+",op="[a-z ]+"}`,
		`registryd_fills_total{result="[a-z]+",source="upstream"}`,
		`registryd_cache_bytes`, `registryd_cache_budget_bytes`, `registryd_evicted_bytes_total`,
		`registryd_first_byte_seconds_bucket{source="fill",le="[^"]+"}`, `registryd_first_byte_seconds_count{source="disk"}`,
	} {
		if !regexp.MustCompile(`(?m)^` + want + ` [0-9.e+]+$`).Match(text) {
			t.Errorf("no metric %s in\n%s", want, grep(text, "registryd_"))
		}
	}
}

// grep returns the lines that begin with prefix.
func grep(text []byte, prefix string) (lines string) {
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, prefix) {
			lines += line
		}
	}
	return lines
}
