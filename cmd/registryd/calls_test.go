package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hostlocal/manifest"
	"hostlocal/s3store/s3test"
)

// These tests count what is asked of the bucket, since each call costs a round trip
// and, at many providers, money.

// A callLog writes down each request to a fake S3, as "op key".
type callLog struct {
	mu    sync.Mutex // guards calls
	calls []string
}

// logCalls has the server write down its requests from now on.
func logCalls(s *s3test.Server) *callLog {
	l := &callLog{}
	s.Fault(func(r *http.Request) *s3test.Fault {
		if strings.HasPrefix(s3test.Key(r), "registryd/probe/") {
			return nil // the probe's last deletion
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.calls = append(l.calls, s3test.Op(r)+" "+s3test.Key(r))
		return nil
	})
	return l
}

// about returns the requests whose key says part; "" is in all.
func (l *callLog) about(part string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.calls {
		if strings.Contains(c, part) {
			found = append(found, c)
		}
	}
	return found
}

// s3Host is a daemon with a fake S3 for a bucket, whose probe of the bucket is over.
func s3Host(t *testing.T, options ...func(*host)) (*host, *s3test.Server) {
	h := newHost(t, append(options, onS3("minio"))...)
	s := h.bucket.(s3Bucket).Server
	h.awaitProbe()
	return h, s
}

// awaitProbe waits until the daemon has found out what the bucket can do.
func (h *host) awaitProbe() {
	h.Helper()
	h.await("the probe of the bucket", func() bool { return strings.Contains(h.adminText("/api/v1/status"), "conditionalComplete") })
}

func (h *host) adminText(path string) string {
	h.Helper()
	resp, err := http.Get(h.admin + path)
	check(h, err)
	defer resp.Body.Close()
	var text strings.Builder
	check(h, resp.Write(&text))
	return text.String()
}

func TestWarmImageCostsNoBucketCall(t *testing.T) {
	h, s := s3Host(t)
	image := h.image(100<<10, 2<<20)
	h.pull(image.Name())
	h.awaitImageStored(image)
	for _, l := range image.Layers {
		h.awaitKept(l.Digest)
	}
	h.pull(image.Name()) // what the first pull remembered of the bucket is warm now
	calls := logCalls(s)
	h.pull(image.Name())
	if got := calls.about(""); len(got) > 0 {
		t.Errorf("a tag within its TTL, its manifest and its layers on the disk cost %q", got)
	}
}

func TestStaleTagCostsAtMostOneBucketCall(t *testing.T) {
	h, s := s3Host(t)
	h.stop()
	text, err := os.ReadFile(h.cfg)
	check(t, err)
	always := strings.Replace(string(text), "docker.io: {", `docker.io: {tags: [{match: "*", policy: always}], `, 1)
	check(t, os.WriteFile(h.cfg, []byte(always), 0o600))
	h.start()
	h.awaitProbe()
	image := h.image(300)
	_, own := ownImage(s, "team/app", "v1", 1, 300)

	for _, tag := range []struct {
		path string
		size int
	}{{"library/app/manifests/v1", len(image.Body)}, {"team/app/manifests/v1", len(own)}} {
		get := func() { h.Helper(); check(t, fetch(h.url+"/v2/"+tag.path, int64(tag.size))) }
		get()
		if strings.HasPrefix(tag.path, "library") {
			h.await("the tag in the bucket", func() bool { return h.bucket.hasTag("docker.io/"+image.Repo, image.Tag) })
		}
		calls := logCalls(s)
		get()
		if got := calls.about(""); len(got) > 1 {
			t.Errorf("%s, which has to be confirmed, cost %q before the answer", tag.path, got)
		}
	}
}

func TestBlobFromBucketCostsItsRanges(t *testing.T) {
	h, s := s3Host(t)
	for i, c := range []struct {
		size int64
		want int
	}{{100 << 10, 1}, {8 << 20, 1}, {24 << 20, 3}} {
		tag := fmt.Sprint("v", i)
		layer, body := ownImage(s, "team/app", tag, byte(i), c.size)
		check(t, fetch(h.url+"/v2/team/app/manifests/"+tag, int64(len(body))))
		calls := logCalls(s)
		check(t, fetch(h.url+"/v2/team/app/blobs/"+layer.String(), c.size))
		want := slices.Repeat([]string{"get " + blobKey(layer)}, c.want)
		if got := calls.about(""); !slices.Equal(got, want) {
			t.Errorf("a blob of %d bytes cost %q, want %q", c.size, got, want)
		}
	}
}

func TestWriteBackOfBlobCostsThreeCalls(t *testing.T) {
	h, s := s3Host(t)
	calls := logCalls(s)
	image := h.image(300, 1<<20, 8<<20)
	h.pull(image.Name())
	h.awaitImageStored(image)
	repo := "docker.io/" + image.Repo
	for _, l := range image.Layers {
		link := "docker/registry/v2/repositories/" + repo + "/_layers/sha256/" + l.Digest.Hex() + "/link"
		h.await("the layer's link", func() bool { _, ok := s.Get(link); return ok })
		if got := written(calls, l.Digest); len(got) > 3 {
			t.Errorf("the write-back of %d bytes cost %q", l.Size, got)
		}
	}
}

// A manifest costs four calls, and one for each blob that this host has not seen, if
// another one took it a moment ago; one more where it lies there for longer. 0.3 s.
func TestPushOfManifestCostsFourCallsAndOneABlobNotSeen(t *testing.T) {
	h, s := s3Host(t, mayPush)
	_, young := ownImage(s, "team/app", "v1", 1, 300)
	_, old := ownImage(s, "team/old", "v1", 2, 300)
	const blobs = 2
	made := 0
	push := func(repo string, body []byte, most int) {
		t.Helper()
		made++
		body = append(bytes.Clone(body), strings.Repeat("\n", made)...) // one that nobody has pushed
		calls := logCalls(s)
		_, err := newPushClient(h.url).want(t.Context(), http.StatusCreated, "manifest", http.MethodPut, "/v2/"+repo+"/manifests/v2", bytes.NewReader(body))
		check(t, err)
		if got := calls.about(""); len(got) > most {
			t.Errorf("a push to %s cost %d calls, want at most %d: %q", repo, len(got), most, got)
		}
	}
	push("team/app", young, 4+blobs)
	push("team/app", young, 4)
	s.SetClock(time.Hour)
	push("team/old", old, 4+2*blobs)
	h.stop()
	h.start()
	h.awaitProbe()
	push("team/app", young, 4+2*blobs)
}

// written returns the calls about a digest that are not the read that found nothing.
func written(l *callLog, d manifest.Digest) []string {
	return slices.DeleteFunc(l.about(d.Hex()), func(c string) bool { return c == "get "+blobKey(d) })
}
