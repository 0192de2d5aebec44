package main

import (
	"context"
	"testing"

	"hostlocal/registryd/upstream/hubtest"
)

// lies are the ways in which an upstream has a blob of this size wrong.
func lies(size int64) map[string][]hubtest.Fault {
	return map[string][]hubtest.Fault{
		"a byte turned":             {hubtest.Flip(size / 2)},
		"the last byte turned":      {hubtest.Flip(size - 1)},
		"a hole":                    {hubtest.Zero(size/2, 4096)},
		"short, and says so":        {hubtest.Short(1000)},
		"short, and says it is not": {hubtest.Short(1000), hubtest.ContentLength(size)},
		"short, chunked":            {hubtest.Short(1000), hubtest.Chunked()},
		"long, and says so":         {hubtest.Long(1000)},
		"wrong and long, chunked":   {hubtest.Long(1000), hubtest.Chunked(), hubtest.Flip(size / 2)},
		"wrong and endless":         {hubtest.Endless(), hubtest.Flip(size / 2)},
		"an error page":             {hubtest.ErrorPage()},
		"another Content-Length":    {hubtest.ContentLength(size / 2)},
		"gzip-encoded":              {hubtest.Gzip()},
	}
}

// breaksOff are the lies that look like a connection which broke: what came is kept
// to go on from, and proves right or wrong with the rest.
var breaksOff = map[string]bool{"short, and says it is not": true, "short, chunked": true}

// What the upstream has wrong comes whole to nobody and stays nowhere, and the first
// request after the upstream has it right again is answered.
func TestUpstreamsWrongBlobReachesNobody(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{3 << 20, 20_000} {
		for name, lie := range lies(size) {
			t.Run(name+" of "+sizeName(size), func(t *testing.T) {
				t.Parallel()
				h := newHost(t)
				image := h.image(size)
				layer := image.Layers[0]
				h.resolve(image.Name())
				h.up.Fault(hubtest.Blob(layer.Digest), lie...)

				h.wantRefused(image, layer.Digest)
				if breaksOff[name] {
					h.wantNotComplete(layer.Digest)
				} else {
					h.wantNothingKept(layer.Digest)
				}
				h.wantFailureCounted("upstream")

				h.up.Heal()
				h.pull(image.Name())
				h.wantHit(image, layer.Digest)
				h.awaitStored(layer)
			})
		}
	}
}

func sizeName(n int64) string { return size{bytes: n}.String() }

// A body without end is taken up to the length that the manifest says; nothing that
// follows is. If what came by then is the blob, that is what counts.
func TestEndlessBodyEndsWhereTheBlobDoes(t *testing.T) {
	t.Parallel()
	const size = 3 << 20
	h := newHost(t)
	image := h.image(size)
	layer := image.Layers[0]
	h.up.Fault(hubtest.Blob(layer.Digest), hubtest.Endless())
	h.pull(image.Name())
	h.wantHit(image, layer.Digest)
}

// Nobody knows how long the blob is, and the upstream does not stop: the disk is not
// filled, and the client is not left with a body that grows for ever.
func TestEndlessBodyOfUnknownBlobIsGivenUp(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	h := newHost(t, func(h *host) { h.size = "64MiB" })
	image := h.image(size)
	layer := image.Layers[0]
	h.up.Fault(hubtest.Blob(layer.Digest), hubtest.Endless(), hubtest.Flip(size/2), hubtest.Rate(256<<20))
	h.wantRefused(image, layer.Digest)
	h.await("the upstream's body to be closed", func() bool { return h.up.InFlight() == 0 })
	h.wantNothingKept(layer.Digest)
	h.up.Heal()
	h.pull(image.Name())
}

// Joined clients are refused like the first.
func TestNobodyOfManyGetsWrongBlobWhole(t *testing.T) {
	t.Parallel()
	const size, clients = 3 << 20, 20
	h := newHost(t)
	image := h.image(size)
	layer := image.Layers[0]
	h.resolve(image.Name())
	gate := hubtest.NewGate()
	h.up.Fault(hubtest.Blob(layer.Digest), hubtest.Flip(size-1), hubtest.HoldAfter(size/2, gate))
	whole := make(chan error, clients)
	for range clients {
		s := h.open(image.Repo, layer.Digest)
		go func() {
			defer s.Close()
			whole <- s.rest(layer)
		}()
	}
	gate.Open()
	for range clients {
		if err := <-whole; err == nil {
			t.Error("a client had the blob whole from an upstream that has it wrong")
		}
	}
	h.wantNothingKept(layer.Digest)
}

// The same of manifests, which no client but containerd checks.
func TestUpstreamsWrongManifestReachesNobody(t *testing.T) {
	t.Parallel()
	size := int64(len(newHost(t).image(300).Body))
	for name, lie := range lies(size) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			image := h.image(300)
			h.up.Fault(hubtest.Of(hubtest.GetManifest), lie...)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for _, c := range []*engine{docker(h.url), podman(h.url)} {
				if _, err := c.pull(ctx, image.Name()); err == nil {
					t.Error("the manifest came, from an upstream that has it wrong")
				} else if ctx.Err() != nil {
					t.Errorf("the client was left hanging: %v", err)
				}
			}
			h.up.Heal()
			h.pull(image.Name())
		})
	}
}
