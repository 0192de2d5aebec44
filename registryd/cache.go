package registryd

import (
	"context"
	"io"
	"os"

	"hostlocal/blobcache"
	"hostlocal/manifest"
)

// A hold is a *blobcache.Blob, as far as this package reads it.
type hold interface {
	Size() int64
	Source() string
	File() *os.File
	CopyRange(ctx context.Context, w io.Writer, off, n int64) error
	ReadAt(p []byte, off int64) (int, error)
	Close() error
}

// disk is what is asked of a blobcache.Cache, on its terms.
type disk interface {
	Open(d manifest.Digest) (hold, error)
	Has(d manifest.Digest) bool
	Get(ctx context.Context, d manifest.Digest, w blobcache.Want) (hold, error)
	Put(d manifest.Digest, r io.Reader, size int64) error
	Remove(d manifest.Digest) error
}

// cacheDisk is the disk of a running daemon; tests have others.
type cacheDisk struct{ *blobcache.Cache }

func (c cacheDisk) Open(d manifest.Digest) (hold, error) {
	b, err := c.Cache.Open(d)
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (c cacheDisk) Get(ctx context.Context, d manifest.Digest, w blobcache.Want) (hold, error) {
	b, err := c.Cache.Get(ctx, d, w)
	if err != nil {
		return nil, err
	}
	return b, nil
}
