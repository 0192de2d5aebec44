package main

import (
	"fmt"
	"net/http"
	"testing"

	"golang.org/x/sync/errgroup"

	"hostlocal/registryd/upstream/hubtest"
)

// A range near the end of a blob that is not here is answered before what precedes
// it has come: the start of the blob is held at the upstream all the while.
func TestRangeNearEndOfColdBlobComesAtOnce(t *testing.T) {
	t.Parallel()
	const size, off, n = 32 << 20, 30 << 20, 1 << 20
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprintf("fill running %v", running), func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			image := h.image(size)
			layer := image.Layers[0]
			h.up.Fault(hubtest.Blobs(), hubtest.Rate(4<<20)) // the daemon is quicker than the upstream
			resume := h.up.holdAfter(layer.Digest, 1<<20)
			h.resolve(image.Name())
			if running {
				first := h.open(image.Repo, layer.Digest)
				defer first.Close()
				check(t, first.want(layer.Slice(0, 64<<10)))
			}
			s, err := docker(h.url).open(t.Context(), image.Repo, layer.Digest, fmt.Sprintf("%d-%d", off, off+n-1))
			check(t, err)
			defer s.Close()
			s.wantPartial(t, off, n, layer)
			check(t, s.want(layer.Slice(off, n)))
			resume()
			h.awaitKept(layer.Digest)
			h.wantOneFetch(layer)
		})
	}
}

// containerd from 2.1 on asks for the whole of a layer eight times, from each 8 MiB
// on without an end, and drops each connection when it has its part.
func TestOpenEndedRangesCostOneBlob(t *testing.T) {
	t.Parallel()
	const part, parts = 8 << 20, 8
	for _, bucket := range buckets {
		t.Run(bucket.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, bucket.on)
			image := h.image(part * parts)
			layer := image.Layers[0]
			h.up.Fault(hubtest.Blobs(), hubtest.Rate(16<<20)) // the clients are quicker than the upstream
			h.resolve(image.Name())

			var all errgroup.Group
			for i := range int64(parts) {
				all.Go(func() error {
					s, err := containerd(h.url).open(t.Context(), image.Repo, layer.Digest, fmt.Sprintf("%d-", i*part))
					if err != nil {
						return err
					}
					defer s.Close()
					s.wantPartial(t, i*part, layer.Size-i*part, layer)
					return s.want(layer.Slice(i*part, part))
				})
			}
			check(t, all.Wait())
			h.awaitKept(layer.Digest)
			h.wantOneFetch(layer)
			h.wantHit(image, layer.Digest)
			h.awaitStored(layer)
		})
	}
}

// wantPartial checks the header of an answer with n bytes from off on.
func (s *stream) wantPartial(t *testing.T, off, n int64, of hubtest.Content) {
	t.Helper()
	if s.StatusCode != http.StatusPartialContent {
		t.Errorf("status %d, want 206", s.StatusCode)
	}
	if got, want := s.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", off, off+n-1, of.Size); got != want {
		t.Errorf("Content-Range %q, want %q", got, want)
	}
	if s.ContentLength != n {
		t.Errorf("Content-Length %d, want %d", s.ContentLength, n)
	}
}
