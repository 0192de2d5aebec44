package registryd

import (
	"context"
	"io"
	"os"
	"syscall"
	"time"

	"hostlocal/blobcache"
	"hostlocal/manifest"
)

// A spool keeps uploads on this disk until they are blobs. It is blobcache.Cache, but
// for a type: the tests put faults between.
type spool interface {
	// NewUpload begins an upload; blobcache.ErrTooManyUploads if there are too many.
	NewUpload(name string) (spooled, error)
	// OpenUpload goes on with one, of an earlier process perhaps. An error wraps
	// fs.ErrNotExist if there is none, blobcache.ErrUploadBusy if somebody has it.
	OpenUpload(name string) (spooled, error)
	// ExpireUploads removes those that nobody has open and that were last added to
	// before.
	ExpireUploads(idle time.Duration, now time.Time) (removed int)
}

// A spooled is an upload that is open, as blobcache.Upload is. It ends with one of
// Commit, Abort and Close; Close keeps it. Size and ReadAtContext may be called while
// it grows.
type spooled interface {
	Size() int64
	// ReadFrom appends what r has. What was appended before an error stays.
	ReadFrom(r io.Reader) (int64, error)
	// ReadAtContext waits for bytes that are still to come.
	ReadAtContext(ctx context.Context, p []byte, off int64) (int, error)
	syscall.Conn // the file of its bytes
	// Reopen is another file of its bytes, which outlives it.
	Reopen() (*os.File, error)
	Digest(a manifest.Algorithm) (manifest.Digest, error)
	Commit(d manifest.Digest) error
	Abort()
	Close() error
}

// cacheSpool is a Cache as a spool.
type cacheSpool struct{ *blobcache.Cache }

func (c cacheSpool) NewUpload(name string) (spooled, error) {
	u, err := c.Cache.NewUpload(name)
	if err != nil {
		return nil, err // not u: a nil *Upload in a spooled would not be nil
	}
	return u, nil
}

func (c cacheSpool) OpenUpload(name string) (spooled, error) {
	u, err := c.Cache.OpenUpload(name)
	if err != nil {
		return nil, err
	}
	return u, nil
}
