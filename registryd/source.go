package registryd

import (
	"context"
	"io"
	"io/fs"
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
	start := time.Now()
	exchange, cancel := context.WithCancel(ctx)
	body, from, size, err := s.store.OpenBlob(exchange, s.d, off, n)
	if err = s.note(ctx, start, err); err != nil {
		cancel()
		return nil, 0, -1, err
	}
	return &ended{body: body, cancel: cancel}, from, size, nil
}

// ended is a body that may be closed while another goroutine reads it, and more
// than once: a fill does that to one that must not go on. Those of a Store and an
// Upstream are for one goroutine, but their reads end with their context.
type ended struct {
	cancel context.CancelFunc

	mu     sync.Mutex // held by a Read for as long as it takes
	body   io.ReadCloser
	closed bool
}

// Read implements io.Reader.
func (e *ended) Read(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return 0, fs.ErrClosed
	}
	return e.body.Read(p)
}

// Close ends the Read that is under way and then closes the body.
func (e *ended) Close() error {
	e.cancel()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	return e.body.Close()
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
	exchange, cancel := context.WithCancel(ctx)
	body, from, size, err := s.openBlob(exchange, s.path, s.d, off, n)
	if err != nil {
		cancel()
		return nil, 0, -1, err
	}
	s.once.Do(func() { s.first(size) })
	return &ended{body: body, cancel: cancel}, from, size, nil
}
