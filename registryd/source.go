package registryd

import (
	"context"
	"io"
	"sync"
	"time"

	"hostlocal/manifest"
)

// storeSource is a blob as the bucket has it. Whether the client may have it was
// proven before: the bucket keeps all repositories' blobs together.
type storeSource struct {
	*bucket
	d manifest.Digest
}

func (s storeSource) Name() string { return SourceStore }

// Open implements blobcache.Source.
func (s storeSource) Open(ctx context.Context, off, n int64) (io.ReadCloser, int64, int64, error) {
	if s.resting() {
		return nil, 0, -1, errBucketRests
	}
	start := time.Now()
	body, from, size, err := s.store.OpenBlob(ctx, s.d, off, n)
	if err = s.note(ctx, start, err); err != nil {
		return nil, 0, -1, err
	}
	return body, from, size, nil
}

// Plan and Patience implement blobcache.Planner.
func (s storeSource) Plan(size int64) (part int64, parallel int) { return s.store.Plan(size) }
func (s storeSource) Patience() time.Duration                    { return s.store.Patience() }

// upstreamSource is a blob as an upstream's repository has it.
type upstreamSource struct {
	*origin
	path string
	d    manifest.Digest

	once  sync.Once
	first func(size int64) // called when the upstream first gave the blob; size in bytes or -1
}

func (s *upstreamSource) Name() string { return SourceUpstream }

// Open implements blobcache.Source.
func (s *upstreamSource) Open(ctx context.Context, off, n int64) (io.ReadCloser, int64, int64, error) {
	body, from, size, err := s.openBlob(ctx, s.path, s.d, off, n)
	if err != nil {
		return nil, 0, -1, err
	}
	s.once.Do(func() { s.first(size) })
	return body, from, size, nil
}
