package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"hostlocal/registryd/upstream/hubtest"
	"hostlocal/s3store/s3test"
)

// wrongObjects are what may lie in a bucket in the place of a blob.
func wrongObjects(c hubtest.Content) map[string][]byte {
	right := c.Bytes()
	var packed bytes.Buffer
	z, _ := gzip.NewWriterLevel(&packed, gzip.NoCompression) // what is random gets no smaller, and only the frame matters
	z.Write(right)
	z.Close()
	return map[string][]byte{
		"a byte turned": damaged(c, c.Size/2),
		"short":         right[:c.Size/2],
		"long":          append(bytes.Clone(right), make([]byte, 1000)...),
		"empty":         {},
		"an error page": []byte("<!DOCTYPE html><html><body>Sign in</body></html>"),
		"gzip":          packed.Bytes(),
	}
}

// storedImage is an image that one host has pulled, and the bucket has whole.
func (h *host) storedImage(sizes ...int64) hubtest.Image {
	h.Helper()
	image := h.image(sizes...)
	h.pull(image.Name())
	h.awaitImageStored(image)
	h.up.WaitIdle()
	h.up.Forget()
	return image
}

// A wrong object in the bucket comes whole to nobody: the host that finds it has the
// blob from the upstream with its next request at the latest, and puts it right for
// the fleet.
func TestWrongObjectInBucketIsReplaced(t *testing.T) {
	t.Parallel()
	for _, bucket := range buckets {
		for _, size := range []int64{3 << 20, 20_000} {
			if size == 20_000 && bucket.name != "folder" {
				continue // what is wrong with the bytes is the same from everywhere
			}
			for name := range wrongObjects(hubtest.Literal(make([]byte, 2000))) {
				t.Run(bucket.name+", "+name+" of "+sizeName(size), func(t *testing.T) {
					t.Parallel()
					h := newHost(t, bucket.on)
					image := h.storedImage(size)
					layer := image.Layers[0]
					h.bucket.put(layer.Digest, wrongObjects(layer)[name])

					second := h.neighbour()
					h.up.Fault(hubtest.Blob(layer.Digest), hubtest.Times(1, hubtest.Latency(time.Second))) // the bucket is asked first, and answers first
					second.pullWithin(2, image)
					second.wantHit(image, layer.Digest)
					second.wantFailureCounted("store")
					second.awaitStored(layer)

					h.up.Down()
					h.neighbour().pull(image.Name())
				})
			}
		}
	}
}

// With the upstream gone too there is nothing right to be had: nobody gets anything
// whole, until the bucket is right again.
func TestWrongObjectInBucketReachesNobody(t *testing.T) {
	t.Parallel()
	for _, bucket := range buckets {
		for name := range wrongObjects(hubtest.Literal(make([]byte, 2000))) {
			t.Run(bucket.name+", "+name, func(t *testing.T) {
				t.Parallel()
				h := newHost(t, bucket.on)
				image := h.storedImage(3 << 20)
				layer := image.Layers[0]
				second := h.neighbour()
				second.resolve(image.Name())
				h.bucket.put(layer.Digest, wrongObjects(layer)[name])
				h.up.Down()
				second.wantRefused(image, layer.Digest)
				if second.kept(layer.Digest) {
					t.Errorf("%s stands in the cache, and never matched", layer.Digest)
				}
				h.bucket.put(layer.Digest, layer.Bytes())
				second.pull(image.Name())
			})
		}
	}
}

// The same of a manifest, which the upstream has too.
func TestWrongManifestInBucketIsReplaced(t *testing.T) {
	t.Parallel()
	for _, bucket := range buckets {
		for name := range wrongObjects(hubtest.Literal(make([]byte, 2000))) {
			t.Run(bucket.name+", "+name, func(t *testing.T) {
				t.Parallel()
				h := newHost(t, bucket.on)
				image := h.storedImage(300, 400, 500) // a manifest of more than 1,000 bytes
				body := hubtest.Literal(image.Body)
				h.bucket.put(image.Digest, wrongObjects(body)[name])
				second := h.neighbour()
				second.pull(image.Name())
				second.awaitStored(body)
			})
		}
	}
}

// The bucket has it right, and what comes over the wire is wrong.
func TestBucketsWrongAnswerReachesNobody(t *testing.T) {
	t.Parallel()
	const size = 3 << 20
	for name, fault := range map[string]s3test.Fault{
		"a byte turned":              {FlipAt: size / 2},
		"the first byte turned":      {FlipAt: -1},
		"too long, without a length": {Unframed: true, Extra: 1000},
		"short, without a length":    {Unframed: true, CutAfter: size / 2},
		"a smaller Content-Length":   {Header: http.Header{"Content-Length": {"1000"}}},
		"gzip, it says":              {Header: http.Header{"Content-Encoding": {"gzip"}}},
		"another Content-Range":      {Header: http.Header{"Content-Range": {"bytes 1000-2000/3000"}}},
	} {
		for _, sdk := range []string{"aws", "minio"} {
			t.Run(sdk+", "+name, func(t *testing.T) {
				t.Parallel()
				h := newHost(t, onS3(sdk))
				image := h.storedImage(size)
				layer := image.Layers[0]
				bucket := h.bucket.(s3Bucket)
				bucket.breakBlob(layer.Digest, fault)
				second := h.neighbour()
				second.pullWithin(2, image)
				second.wantHit(image, layer.Digest)

				bucket.Up()
				h.up.Down()
				h.neighbour().pullWithin(1, image)
			})
		}
	}
}

// pullWithin pulls the image until it comes whole, so many times at most: a body
// that breaks off is the daemon's right when it was sent something wrong, wrong bytes
// that come to a good end never are.
func (h *host) pullWithin(tries int, image hubtest.Image) {
	h.Helper()
	for n := 1; ; n++ {
		ctx, cancel := context.WithTimeout(h.Context(), patience)
		_, err := docker(h.url).pull(ctx, image.Name())
		cancel()
		if err == nil {
			return
		}
		if wrong := (wholeError{}); errors.As(err, &wrong) {
			h.Fatalf("pull of %s: %v", image.Name(), err)
		}
		if n == tries {
			h.Fatalf("pull of %s, for the %d. time: %v", image.Name(), n, err)
		}
	}
}
