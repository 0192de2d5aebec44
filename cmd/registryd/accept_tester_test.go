package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
	"hostlocal/s3store/s3test"
)

// The acceptance tests (accept_*_test.go) run the daemon whole, as serve starts it
// from a configuration, between clients, an upstream and a bucket at the other
// ends of real sockets. Each says one row of what the daemon promises.

// A host is one daemon with an upstream and a bucket of its own, with verbs.
type host struct {
	testing.TB
	up     *origin
	bucket bucketServer
	dir    string        // of the cache
	size   string        // of the cache, as the configuration says it
	cfg    string        // the configuration's file
	push   string        // who may push
	checks string        // what a pushed manifest may not name before it is there; "": the daemon's own
	expiry time.Duration // of pushes that broke off; 0: the daemon's own
	log    *recorder
	stop   func() // of the daemon that runs

	url, admin string
}

// newHost starts a daemon with docker.io as its upstream and, unless an option
// says otherwise, a folder as its bucket.
func newHost(t testing.TB, options ...func(*host)) *host {
	t.Helper()
	h := &host{TB: t, up: &origin{hubtest.New(t)}, dir: filepath.Join(t.TempDir(), "cache"), size: "1GiB", push: "off"}
	for _, o := range options {
		o(h)
	}
	if h.bucket == nil {
		onFolder(h)
	}
	h.configure()
	h.start()
	t.Cleanup(func() { h.stop() })
	return h
}

// neighbour is another host: a daemon with an empty cache of its own, and the same
// bucket and upstream.
func (h *host) neighbour() *host {
	h.Helper()
	n := &host{TB: h.TB, up: h.up, bucket: h.bucket, dir: filepath.Join(h.TempDir(), "cache"), size: h.size, push: h.push, checks: h.checks}
	n.configure()
	n.start()
	h.Cleanup(func() { n.stop() })
	return n
}

// onFolder gives the host a folder for a bucket.
func onFolder(h *host) { h.bucket = folderBucket{filepath.Join(h.TempDir(), "store")} }

// mayPush has the host take pushes.
func mayPush(h *host) { h.push = "loopback" }

// onS3 gives the host a bucket behind a fake S3, by that SDK.
func onS3(sdk string) func(*host) {
	return func(h *host) {
		credentials()
		h.bucket = s3Bucket{s3test.New(h), sdk}
	}
}

// credentials are for the SDKs' usual chain. They are the process's, since tests in
// parallel cannot each have an environment.
var credentials = sync.OnceFunc(func() {
	os.Setenv("AWS_ACCESS_KEY_ID", s3test.AccessKey)
	os.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
})

// configure writes the configuration's file.
func (h *host) configure() {
	h.Helper()
	h.cfg = filepath.Join(h.TempDir(), "registryd.yaml")
	text := fmt.Sprintf(`
listen: 127.0.0.1:0
admin: 127.0.0.1:0
cache: {dir: %q, size: %s, keep_free: 0}
push: %s
store:
%s
upstreams:
  docker.io: {url: %q}
`, h.dir, h.size, h.push, h.bucket.config(), h.up.URL)
	if h.checks != "" {
		text += "push_references: " + h.checks + "\n"
	}
	if err := os.WriteFile(h.cfg, []byte(text), 0o600); err != nil {
		h.Fatal(err)
	}
}

// start runs serve until stop is called.
func (h *host) start() {
	h.Helper()
	c, _, err := load(h.cfg, nil)
	if err != nil {
		h.Fatal(err)
	}
	c.uploadExpiry = h.expiry
	h.log = &recorder{serving: make(chan map[string]string, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, c, slog.New(h.log)) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; errors.Is(err, context.DeadlineExceeded) {
			h.Logf("the daemon left work behind, as it may: %v", err)
		} else if err != nil {
			h.Errorf("the daemon ended with: %v", err)
		}
		if h.Failed() {
			h.Logf("the daemon logged:\n%s", strings.Join(h.log.all(), "\n"))
		}
	})
	select {
	case at := <-h.log.serving:
		h.url, h.admin = "http://"+at["listen"], "http://"+at["admin"]
	case err := <-ended:
		h.stop = func() {}
		h.Fatalf("the daemon did not start: %v", err)
	case <-time.After(startLimit):
		h.Fatal("the daemon did not start")
	}
}

// restart stops the daemon and starts it again on the same folders.
func (h *host) restart() {
	h.Helper()
	h.stop()
	h.start()
}

// image puts an image with layers of these sizes into the upstream, as
// library/app:v1.
func (h *host) image(sizes ...int64) hubtest.Image {
	return h.up.AddImage("library/app", "v1", h.up.Layers(sizes...)...)
}

// pull pulls an image whole, as docker does, and fails the test if any byte is wrong.
func (h *host) pull(image string) *pulled {
	h.Helper()
	p, err := docker(h.url).pull(h.Context(), image)
	if err != nil {
		h.Fatalf("pull of %s: %v", image, err)
	}
	return p
}

// wantRefused pulls the blob, which must not come whole, and must not take long to
// say so.
func (h *host) wantRefused(image hubtest.Image, d manifest.Digest) {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	body, err := docker(h.url).blob(ctx, image.Repo, d)
	wrong := wholeError{}
	if err == nil || errors.As(err, &wrong) {
		h.Errorf("blob %s came to a good end, %d bytes, from a source that has it wrong: %v", d, body, err)
	} else if ctx.Err() != nil {
		h.Errorf("blob %s: the client was left hanging for %v: %v", d, patience, err)
	}
}

// patience bounds what must end, one way or the other: a stall is given up after
// five seconds, and no answer may take ten.
var patience = 15 * time.Second

// wantHit pulls the blob, which must come from the disk.
func (h *host) wantHit(image hubtest.Image, d manifest.Digest) {
	h.Helper()
	h.awaitKept(d)
	s, err := docker(h.url).open(h.Context(), image.Repo, d, "")
	if err != nil {
		h.Fatal(err)
	}
	defer s.Close()
	if err := s.verify(d); err != nil {
		h.Fatal(err)
	}
	if got := s.Header.Get("X-Registryd-Source"); got != "disk" {
		h.Errorf("%s came from %q, want disk", d, got)
	}
}

// await polls for what has no gate of its own, and is bounded: by far more than it takes on
// a machine that does much else.
func (h *host) await(what string, ok func() bool) {
	h.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.Fatalf("waited in vain for %s", what)
		}
	}
}

// kept reports whether the blob is complete on the daemon's disk.
func (h *host) kept(d manifest.Digest) bool {
	_, err := os.Stat(filepath.Join(h.dir, "blobs", string(d.Algorithm()), d.Hex()[:2], d.Hex()))
	return err == nil
}

// awaitKept waits until the blob is complete on the daemon's disk: a client has its
// last byte a little before.
func (h *host) awaitKept(d manifest.Digest) {
	h.Helper()
	h.await("the blob on the disk", func() bool { return h.kept(d) })
}

// wantNothingKept checks that the blob stands complete nowhere, and waits until the
// cache has none of its bytes either.
func (h *host) wantNothingKept(d manifest.Digest) {
	h.Helper()
	h.wantNotComplete(d)
	partial := filepath.Join(h.dir, "partial", "*"+d.Hex()+"*")
	h.await("the bytes of "+d.String()+" to go", func() bool {
		left, err := filepath.Glob(partial)
		return err == nil && len(left) == 0
	})
}

// wantNotComplete checks that neither the disk nor the bucket has the blob as
// complete.
func (h *host) wantNotComplete(d manifest.Digest) {
	h.Helper()
	if h.kept(d) {
		h.Errorf("%s stands in the cache, and never matched", d)
	}
	if _, ok := h.bucket.get(d); ok {
		h.Errorf("the bucket was given %s, which never matched", d)
	}
}

// awaitStored waits until the bucket has exactly the blob's bytes.
func (h *host) awaitStored(c hubtest.Content) {
	h.Helper()
	want := c.Bytes()
	h.await("the blob in the bucket", func() bool {
		got, ok := h.bucket.get(c.Digest)
		return ok && bytes.Equal(got, want)
	})
}

// awaitImageStored waits until the bucket has the image whole.
func (h *host) awaitImageStored(image hubtest.Image) {
	h.Helper()
	for _, c := range append(image.Layers, image.Config, hubtest.Literal(image.Body)) {
		h.awaitStored(c)
	}
	h.await("the tag in the bucket", func() bool { return h.bucket.hasTag("docker.io/"+image.Repo, image.Tag) })
}

// counted sums the samples of a metric that have these labels, each as key="value".
func (h *host) counted(metric string, labels ...string) (sum float64) {
	h.Helper()
	resp, err := http.Get(h.admin + "/metrics")
	if err != nil {
		h.Fatal(err)
	}
	defer resp.Body.Close()
	sum, err = sumSamples(resp.Body, metric, labels)
	if err != nil {
		h.Fatal(err)
	}
	return sum
}

// wantCounted waits until the metric has counted.
func (h *host) wantCounted(metric string, labels ...string) {
	h.Helper()
	h.await(fmt.Sprintf("%s%v to count", metric, labels), func() bool { return h.counted(metric, labels...) > 0 })
}

// wantFailureCounted waits until a fill from the source has counted as one that failed.
func (h *host) wantFailureCounted(source string) {
	h.Helper()
	h.await("a failed fill to be counted", func() bool {
		label := fmt.Sprintf("source=%q", source)
		return h.counted("registryd_fills_total", label) > h.counted("registryd_fills_total", label, `result="ok"`)
	})
}

// A recorder keeps what the daemon logs.
type recorder struct {
	serving chan map[string]string // the addresses, once it serves

	mu    sync.Mutex // guards lines
	lines []string
}

func (r *recorder) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler           { return r }
func (r *recorder) WithGroup(string) slog.Handler                { return r }

func (r *recorder) Handle(_ context.Context, rec slog.Record) error {
	attrs := map[string]string{}
	rec.Attrs(func(a slog.Attr) bool {
		attrs[a.Key] = a.Value.String()
		return true
	})
	r.mu.Lock()
	r.lines = append(r.lines, fmt.Sprint(rec.Level, " ", rec.Message, " ", attrs))
	r.mu.Unlock()
	if rec.Message == "serving" {
		r.serving <- attrs
	}
	return nil
}

// resolve gets the image's manifest only, so that the daemon knows what it names.
func (h *host) resolve(image string) {
	h.Helper()
	repo, tag, _ := strings.Cut(image, ":")
	p := &pulled{bytes: map[manifest.Digest]int64{}, source: map[manifest.Digest]string{}}
	if _, err := docker(h.url).manifest(h.Context(), p, repo, tag); err != nil {
		h.Fatal(err)
	}
}

// open asks for a blob.
func (h *host) open(repo string, d manifest.Digest) *stream {
	h.Helper()
	s, err := docker(h.url).open(h.Context(), repo, d, "")
	if err != nil {
		h.Fatal(err)
	}
	return s
}

// wantOneFetch checks that the upstream sent each byte of the blob once.
func (h *host) wantOneFetch(c hubtest.Content) {
	h.Helper()
	h.wantCost(c, tolerance)
}

// wantCost checks that the upstream sent the content at least once, and at most so
// many times.
func (h *host) wantCost(c hubtest.Content, most float64) {
	h.Helper()
	h.up.WaitIdle()
	if cost := h.up.cost(c); cost < 1 || cost > most {
		h.Errorf("the upstream sent %.3f times %s of %d bytes, want at most %.2f", cost, c.Digest, c.Size, most)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
}
