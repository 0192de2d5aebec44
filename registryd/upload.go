package registryd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"
	"syscall"

	"hostlocal/blobcache"
	"hostlocal/manifest"
)

// errGone says that what was to be written is not on this disk any more.
var errGone = errors.New("evicted before the bucket took it")

// write does the work.
func (w *writer) write(ctx context.Context, x write) error {
	switch {
	case x.abandon:
		return w.removeUpload(ctx, x.Digest)
	case x.Manifest:
		return w.writeManifest(ctx, x)
	}
	return w.writeBlob(ctx, x)
}

// writeManifest writes the manifest, and the tags that stand for it. Where the
// bucket says of all tags that they do already, that one question is all: tags are
// written last, so what they stand for is there.
func (w *writer) writeManifest(ctx context.Context, x write) error {
	tags, err := w.unsaid(ctx, x)
	if err != nil {
		return err
	}
	if len(x.Tags) > 0 && len(tags) == 0 {
		return nil
	}
	body, err := w.body(ctx, x)
	if err != nil {
		return err
	}
	if err := w.store.PutManifest(ctx, x.Repo, x.Digest, body); err != nil {
		return fmt.Errorf("writing manifest %s of %s: %w", x.Digest, x.Repo, err)
	}
	for _, tag := range tags {
		if w.stands(tagKey{x.Repo, tag}) != x.Digest {
			continue // it moved on; a later write says where to
		}
		if err := w.store.PutTag(ctx, x.Repo, tag, x.Digest); err != nil {
			return fmt.Errorf("writing tag %s:%s: %w", x.Repo, tag, err)
		}
	}
	return nil
}

// body returns the bytes of a manifest: from this disk, or from the bucket, where a kill
// came when they were there, its link was not, and the disk had not got them yet.
func (w *writer) body(ctx context.Context, x write) ([]byte, error) {
	m, err := w.load(x.Digest)
	if err == nil {
		return m.Body, nil
	}
	body, there := w.store.Manifest(ctx, x.Repo, x.Digest)
	switch {
	case there == nil:
		return body, nil
	case errors.Is(there, fs.ErrNotExist), errors.Is(there, manifest.ErrMismatch):
		return nil, fmt.Errorf("%w: %w", errGone, err)
	}
	return nil, fmt.Errorf("asking the bucket for manifest %s of %s: %w", x.Digest, x.Repo, there)
}

// unsaid are the tags of x of which the bucket does not say that they stand for
// its manifest.
func (w *writer) unsaid(ctx context.Context, x write) (tags []string, err error) {
	for _, tag := range x.Tags {
		d, err := w.store.Tag(ctx, x.Repo, tag)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("asking for tag %s:%s: %w", x.Repo, tag, err)
		}
		if err != nil || d != x.Digest {
			tags = append(tags, tag)
		}
	}
	return tags, nil
}

// writeBlob joins the fill and uploads what lands. A blob that passes through
// without being kept is left out: it is gone before the bucket could ask for a part
// again.
func (w *writer) writeBlob(ctx context.Context, x write) error {
	b, err := w.disk.Join(ctx, x.Digest)
	if err != nil {
		return w.linkBlob(ctx, x, err)
	}
	defer b.Close()
	r := &followed{ctx: ctx, blob: b}
	size := b.Size()
	if size < 0 {
		if size, err = length(r); err != nil {
			return fmt.Errorf("%w: %w", errGone, err)
		}
	}
	if err := w.put(ctx, x.Digest, size, r); err != nil {
		if r.failed.Load() {
			return fmt.Errorf("%w: %w", errGone, err) // the fill's failure, not the bucket's
		}
		return fmt.Errorf("writing blob %s: %w", x.Digest, err)
	}
	return w.link(ctx, x)
}

// linkBlob is writeBlob for a blob that is gone from this disk: the bucket may have its
// bytes all the same, where a kill came between them and the link.
func (w *writer) linkBlob(ctx context.Context, x write, gone error) error {
	switch size, err := w.store.StatBlob(ctx, x.Digest); {
	case errors.Is(err, fs.ErrNotExist), err == nil && x.Size >= 0 && size != x.Size:
		return fmt.Errorf("%w: %w", errGone, gone)
	case err != nil:
		return fmt.Errorf("asking the bucket for blob %s: %w", x.Digest, err)
	}
	return w.link(ctx, x)
}

func (w *writer) link(ctx context.Context, x write) error {
	if err := w.store.LinkLayer(ctx, x.Repo, x.Digest); err != nil {
		return fmt.Errorf("linking %s in %s: %w", x.Digest, x.Repo, err)
	}
	return nil
}

// followed is a blob that is read for the bucket as it lands. It tells a fill that
// failed from a bucket that did.
type followed struct {
	ctx    context.Context // of the upload
	blob   *blobcache.Blob
	failed atomic.Bool
}

// ReadAt implements io.ReaderAt.
func (f *followed) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.blob.ReadAtContext(f.ctx, p, off)
	return n, f.heard(err)
}

// Await implements s3store.Awaiter.
func (f *followed) Await(off, n int64) error { return f.heard(f.blob.AwaitContext(f.ctx, off, n)) }

// SyscallConn implements syscall.Conn.
func (f *followed) SyscallConn() (syscall.RawConn, error) { return f.blob.SyscallConn() }

func (f *followed) heard(err error) error {
	if err != nil && !errors.Is(err, io.EOF) && f.ctx.Err() == nil {
		f.failed.Store(true)
	}
	return err
}

// length reads a blob whose size nobody said to its end and returns the size in
// bytes.
func length(r io.ReaderAt) (int64, error) {
	buf := make([]byte, 256<<10)
	var off int64
	for {
		n, err := r.ReadAt(buf, off)
		off += int64(n)
		if errors.Is(err, io.EOF) {
			return off, nil
		}
		if err != nil {
			return 0, err
		}
	}
}
