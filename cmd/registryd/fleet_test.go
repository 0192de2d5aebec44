package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

func (b folderBucket) has(key string) bool {
	_, err := os.Stat(filepath.Join(b.dir, key))
	return err == nil
}

func (b s3Bucket) has(key string) bool {
	_, ok := b.Server.Get(key)
	return ok
}

// links are the keys that make a pulled index visible in the bucket: those of its
// tag, of both manifests and of each blob.
func links(index hubtest.Image) (keys []string) {
	root := "docker/registry/v2/repositories/docker.io/" + index.Repo
	add := func(format string, d manifest.Digest) {
		keys = append(keys, root+fmt.Sprintf(format, d.Algorithm(), d.Hex()))
	}
	image := index.Images[0]
	keys = append(keys, root+"/_manifests/tags/"+index.Tag+"/current/link")
	add("/_manifests/tags/"+index.Tag+"/index/%s/%s/link", index.Digest)
	for _, d := range []manifest.Digest{index.Digest, image.Digest} {
		add("/_manifests/revisions/%s/%s/link", d)
	}
	for _, c := range append(image.Layers, image.Config) {
		add("/_layers/%s/%s/link", c.Digest)
	}
	return keys
}

// index puts an image of two platforms into the upstream, with a layer that goes
// to the bucket in parts.
func (h *host) index() hubtest.Image {
	platforms := []manifest.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
	return h.up.AddIndex("library/app", "v1", platforms, h.up.Layers(18<<20, 1<<20, 300)...)
}

// awaitIndexStored waits until the bucket has what a pull of the index fetched.
func (h *host) awaitIndexStored(index hubtest.Image) {
	h.Helper()
	image := index.Images[0]
	for _, c := range append(image.Layers, image.Config, hubtest.Literal(image.Body), hubtest.Literal(index.Body)) {
		h.awaitStored(c)
	}
	bucket := h.bucket.(interface{ has(key string) bool })
	for _, key := range links(index) {
		h.await(key+" in the bucket", func() bool { return bucket.has(key) })
	}
}

func TestPullIsInTheBucketSoonAfterItsLastByte(t *testing.T) {
	t.Parallel()
	const soon = 2*time.Second + noise
	for _, bucket := range buckets {
		name, kind := bucket.name, bucket.on
		t.Run(name, func(t *testing.T) {
			h := newHost(t, kind)
			index := h.index()
			h.pull(index.Name())
			last := startWatch()
			h.awaitIndexStored(index)
			if took := last.took(); took > soon {
				t.Errorf("all of the pull was in the bucket after %v, want at most %v", took, soon)
			}
		})
	}
}

// What one host pulled, the next one has from the bucket; the upstream is asked
// for no more than whether the tag still stands for it, if there is one.
//
// It does not run beside others: see wantNeighbourOnBucket.
func TestNextHostPullsFromTheBucket(t *testing.T) {
	for _, bucket := range buckets {
		name, kind := bucket.name, bucket.on
		t.Run(name, func(t *testing.T) {
			h := newHost(t, kind)
			index := h.index()
			h.pull(index.Name())
			h.awaitIndexStored(index)
			h.up.WaitIdle()
			h.wantNeighbourOnBucket(index)

			h.up.Down()
			last := h.neighbour()
			watch := startWatch()
			last.pull(index.Name())
			if took := watch.took(); took > firstAnswer+nextAnswers {
				t.Errorf("the pull with the bucket alone took %v", took)
			}
			if a := last.tag(http.MethodGet, index); !strings.HasPrefix(a.Header.Get("Warning"), "299 ") {
				t.Errorf("a tag that only the bucket knows comes with the warning %q", a.Header.Get("Warning"))
			}
		})
	}
}

// wantNeighbourOnBucket pulls on another host, which must leave the upstream alone.
// A bucket that says nothing for a tenth of a second is raced by the upstream, and
// on a machine without a free processor each bucket is one: that does not count.
func (h *host) wantNeighbourOnBucket(index hubtest.Image) {
	h.Helper()
	const tries, silence = 20, 20 * time.Millisecond
	for try := 1; ; try++ {
		h.up.Forget()
		n := h.neighbour()
		watch := startWatch()
		p := n.pull(index.Name())
		if p.digest != index.Digest {
			h.Errorf("the neighbour got %s, want %s", p.digest, index.Digest)
		}
		n.wantCounted("registryd_fills_total", `source="store"`)
		asked := h.up.Count(hubtest.GetBlob, hubtest.HeadBlob, hubtest.GetManifest)
		if asked > 0 && watch.starved() > silence && try < tries {
			continue
		}
		if asked > 0 {
			h.Errorf("the upstream had %d requests for what is in the bucket", asked)
		}
		if n := h.up.Count(hubtest.HeadManifest); n > 1 {
			h.Errorf("the upstream was asked %d times what the tag stands for", n)
		}
		return
	}
}

// contract is each metric with the samples that a pull makes of it.
var contract = map[string][]string{
	"registryd_served_bytes_total":       {`{source="disk"}`, `{source="fill"}`, `{source="store"}`, `{source="upstream"}`},
	"registryd_requests_total":           {`{code="200",route="manifest"}`, `{code="200",route="blob"}`},
	"registryd_upstream_requests_total":  {`{code="200",kind="manifest",upstream="docker.io"}`, `{code="200",kind="blob",upstream="docker.io"}`},
	"registryd_upstream_bytes_total":     {`{upstream="docker.io"}`},
	"registryd_store_requests_total":     {`{code="404",op="get"}`, `{code="200",op="put"}`},
	"registryd_fills_total":              {`{result="ok",source="upstream"}`},
	"registryd_cache_bytes":              {``},
	"registryd_cache_budget_bytes":       {``},
	"registryd_evicted_bytes_total":      {``},
	"registryd_first_byte_seconds_count": {`{source="disk"}`, `{source="fill"}`},
}

func TestMetricsAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	h := newHost(t, onS3("minio"))
	image := h.image(1<<20, 300)
	h.pull(image.Name())
	h.awaitImageStored(image)
	h.pull(image.Name())
	resp, err := http.Get(h.admin + "/metrics")
	check(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	check(t, err)
	for metric, samples := range contract {
		for _, labels := range samples {
			if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(metric+labels) + ` [0-9.e+]+$`).Match(text) {
				t.Errorf("there is no %s%s", metric, labels)
			}
		}
	}
	if sum := h.counted("registryd_upstream_bytes_total"); sum < float64(image.Bytes()) {
		t.Errorf("%v bytes came from the upstream, an image of %d bytes was pulled", sum, image.Bytes())
	}
	// A fill that ends between its client's two looks is a complete file by then, so a
	// layer of the first pull may have come from the disk.
	// The last of a pull is counted a little after its client has it.
	each := float64(image.Bytes() - int64(len(image.Body)))
	h.await(fmt.Sprintf("%d bytes to be served twice, from fills and from the disk", image.Bytes()), func() bool {
		fill, disk := h.counted("registryd_served_bytes_total", `source="fill"`), h.counted("registryd_served_bytes_total", `source="disk"`)
		return fill > 0 && disk >= each && fill+disk >= 2*each
	})
	if t.Failed() {
		for line := range strings.SplitSeq(string(text), "\n") {
			if strings.HasPrefix(line, "registryd_") && !strings.Contains(line, "_bucket{") {
				t.Log(line)
			}
		}
	}
}
