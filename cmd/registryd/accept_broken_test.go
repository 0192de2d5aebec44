package main

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"hostlocal/registryd/upstream/hubtest"
	"hostlocal/s3store/s3test"
)

// resumed is what a blob may cost of a source that breaks off, in blobs: what is
// missing is asked for, and not what is there.
const resumed = 1.1

// The upstream's connection breaks, again and again, and no client notices.
func TestUpstreamCutEveryFiveMiB(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]hubtest.Fault{
		"closed": hubtest.CutEvery(5 << 20),
		"reset":  hubtest.ResetEvery(5 << 20),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			image := h.image(32 << 20)
			layer := image.Layers[0]
			h.up.Fault(hubtest.Blob(layer.Digest), fault, hubtest.Rate(64<<20))
			h.pull(image.Name())
			h.wantCost(layer, resumed)
			h.wantHit(image, layer.Digest)
			h.awaitStored(layer)
		})
	}
}

// The bucket's connection breaks, and the upstream is gone.
func TestBucketCutEveryFiveMiB(t *testing.T) {
	t.Parallel()
	for _, sdk := range []string{"aws", "minio"} {
		t.Run(sdk, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, onS3(sdk))
			bucket := h.bucket.(s3Bucket)
			image := h.storedImage(32 << 20)
			layer := image.Layers[0]
			before := bucket.sent(layer.Digest)
			bucket.breakBlob(layer.Digest, s3test.Fault{CutAfter: 5 << 20})
			h.up.Down()
			second := h.neighbour()
			second.pull(image.Name())
			cost := func() float64 { return float64(bucket.sent(layer.Digest)-before) / float64(layer.Size) }
			h.await("the bucket to count what it sent", func() bool { return cost() >= 1 })
			if cost := cost(); cost > resumed {
				t.Errorf("the bucket sent %.2f times the layer, want at most %.1f", cost, resumed)
			}
		})
	}
}

// The upstream stalls mid-body once: the rest is asked for anew, and the client's body
// goes on.
func TestUpstreamStalledOnceIsAskedAgain(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	image := h.image(8 << 20)
	layer := image.Layers[0]
	h.up.Fault(hubtest.Blob(layer.Digest), hubtest.Times(1, hubtest.StallAfter(3<<20)))
	h.pullWithin(1, image)
	h.wantCost(layer, resumed)
}

// The upstream stalls mid-body for good, and nobody else has the blob: the client's
// connection is closed, and the next client has the rest without what had come.
func TestUpstreamStalledMidBodyIsNotHeldOpen(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	image := h.image(8 << 20)
	layer := image.Layers[0]
	h.resolve(image.Name())
	h.up.Fault(hubtest.Blob(layer.Digest), hubtest.StallAfter(0), hubtest.Times(1, hubtest.StallAfter(3<<20)))
	h.wantRefused(image, layer.Digest)
	h.wantNotComplete(layer.Digest)
	h.up.Heal()
	h.pull(image.Name())
	h.wantCost(layer, resumed)
}

// The upstream takes the request and says nothing: an error comes within ten seconds.
func TestUpstreamStalledBeforeBodyIsAnError(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	image := h.image(1 << 20)
	h.resolve(image.Name())
	h.up.Fault(hubtest.Blobs(), hubtest.Stall())
	h.wantOutage(image, 10*time.Second)
	h.up.Heal()
	h.pull(image.Name())
}

// The bucket stalls, mid-body or before: within seconds the upstream is asked, and
// the client has one whole body.
func TestStalledBucketGivesWayToUpstream(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]s3test.Fault{
		"mid-body":        {StallAfter: 3 << 20},
		"before the body": {StallAfter: -1},
		"silent":          {StallHeader: true},
	} {
		for _, sdk := range []string{"aws", "minio"} {
			t.Run(sdk+", "+name, func(t *testing.T) {
				t.Parallel()
				h := newHost(t, onS3(sdk))
				image := h.storedImage(8 << 20)
				h.bucket.(s3Bucket).breakBlob(image.Layers[0].Digest, fault)
				h.neighbour().pullWithin(1, image)
			})
		}
	}
}

// The bucket stalls and the upstream is gone.
func TestStalledBucketAloneIsNotHeldOpen(t *testing.T) {
	t.Parallel()
	for _, sdk := range []string{"aws", "minio"} {
		t.Run(sdk, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, onS3(sdk))
			image := h.storedImage(8 << 20)
			layer := image.Layers[0]
			bucket := h.bucket.(s3Bucket)
			second := h.neighbour()
			second.resolve(image.Name())
			bucket.breakBlob(layer.Digest, s3test.Fault{StallAfter: -1})
			h.up.Down()
			second.wantRefused(image, layer.Digest)
			bucket.Up()
			second.await("the bucket to be asked again", func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				_, err := docker(second.url).pull(ctx, image.Name())
				return err == nil
			})
		})
	}
}

// A source that is overloaded for a moment is asked again, and the pull goes on: of a
// tag that nobody knows yet, of manifests and of blobs.
func TestUpstreamBusyForAMomentFailsNoPull(t *testing.T) {
	t.Parallel()
	for name, busy := range map[string]func() hubtest.Fault{
		"503 twice":                func() hubtest.Fault { return hubtest.Times(2, hubtest.Status(http.StatusServiceUnavailable)) },
		"429 with Retry-After":     func() hubtest.Fault { return hubtest.Times(1, hubtest.TooMany(1)) },
		"429 with Retry-After 0":   func() hubtest.Fault { return hubtest.Times(1, hubtest.TooMany(0)) },
		"429 without Retry-After":  func() hubtest.Fault { return hubtest.Times(1, hubtest.TooMany(-1)) },
		"closed without an answer": func() hubtest.Fault { return hubtest.Times(1, hubtest.Drop()) },
	} {
		for what, match := range map[string]hubtest.Matcher{
			"manifest": hubtest.Of(hubtest.GetManifest),
			"blob":     hubtest.Blobs(),
		} {
			t.Run(what+", "+name, func(t *testing.T) {
				t.Parallel()
				h := newHost(t)
				image := h.image(1 << 20)
				h.up.Fault(match, busy())
				h.pull(image.Name())
				h.wantCost(image.Layers[0], tolerance)
			})
		}
	}
}

// One that goes on refusing is an error within ten seconds, of the kind that a
// runtime falls back at, and is not held against it afterwards.
func TestUpstreamBusyForLongIsAnError(t *testing.T) {
	t.Parallel()
	for name, busy := range map[string]hubtest.Fault{
		"503":                     hubtest.Status(http.StatusServiceUnavailable),
		"429 with Retry-After":    hubtest.TooMany(30),
		"429 without Retry-After": hubtest.TooMany(-1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			image := h.image(1 << 20)
			h.resolve(image.Name())
			h.up.Fault(hubtest.Blobs(), busy)
			h.wantOutage(image, 10*time.Second)
			h.up.Heal()
			h.pull(image.Name())
		})
	}
}

// The same of the bucket, with the upstream gone.
func TestBucketBusyForAMomentFailsNoPull(t *testing.T) {
	t.Parallel()
	for name, busy := range map[string]s3test.Fault{
		"503":                      {Status: http.StatusServiceUnavailable},
		"429 with Retry-After":     {Status: http.StatusTooManyRequests, RetryAfter: "1"},
		"429 without Retry-After":  {Status: http.StatusTooManyRequests},
		"closed without an answer": {Drop: true},
	} {
		for _, sdk := range []string{"aws", "minio"} {
			t.Run(sdk+", "+name, func(t *testing.T) {
				t.Parallel()
				h := newHost(t, onS3(sdk))
				image := h.storedImage(1 << 20)
				h.bucket.(s3Bucket).Fault(onBlob(image.Layers[0].Digest, s3test.Times(1, "get", busy)))
				h.up.Down()
				h.neighbour().pull(image.Name())
			})
		}
	}
}

// And of a bucket that goes on refusing, while the upstream does not.
func TestBucketBusyForLongGivesWayToUpstream(t *testing.T) {
	t.Parallel()
	for name, busy := range map[string]s3test.Fault{
		"503":                     {Status: http.StatusServiceUnavailable},
		"429 with Retry-After":    {Status: http.StatusTooManyRequests, RetryAfter: "30"},
		"429 without Retry-After": {Status: http.StatusTooManyRequests},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, onS3("aws"))
			image := h.storedImage(1 << 20)
			h.bucket.(s3Bucket).breakBlob(image.Layers[0].Digest, busy)
			second := h.neighbour()
			second.pullWithin(1, image)
			h.wantCost(image.Layers[0], tolerance)
		})
	}
}

// wantOutage asks for the image's first layer, which must be answered with an error
// that sends a runtime elsewhere, within the time.
func (h *host) wantOutage(image hubtest.Image, within time.Duration) {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), within)
	defer cancel()
	_, err := docker(h.url).blob(ctx, image.Repo, image.Layers[0].Digest)
	var answer statusError
	switch {
	case ctx.Err() != nil:
		h.Errorf("no answer within %v", within)
	case !errors.As(err, &answer):
		h.Errorf("want an answer that says what is wrong, got %v", err)
	case answer.status < 502 || answer.status > 504:
		h.Errorf("answered %v, want 502, 503 or 504", answer)
	}
}
