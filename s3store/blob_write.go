package s3store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"sync"
	"sync/atomic"

	"hostlocal/manifest"
)

// maxSinglePut is the largest body that is sent in one piece. Above it parts are
// sent while the blob is still arriving, and a failure costs a part.
const maxSinglePut = 8 << 20

// PutBlob stores the size bytes of r under d, create-only. It looks first: a blob
// that is there already is success and costs no body. So it is with small ones, too:
// most writes are those of a mirror, whose blobs another host has brought, and what
// clients push they have often asked for in one repository while another one has it. What is there but is not
// size bytes long, or was distrusted, is replaced.
//
// r may block until its bytes have landed, and is read while they do. What it
// yields must be right by the time its last byte comes: PutBlob does not hash, and
// completes the object once it has read everything. An error of r, which must then
// be its last word, leaves nothing in the bucket. When PutBlob has returned r may be
// closed: what a connection that was given up reads of it yet goes nowhere.
//
// A blob up to 8 MiB costs at most three exchanges.
func (s *Store) PutBlob(ctx context.Context, d manifest.Digest, size int64, r io.ReaderAt) error {
	return s.ResumeBlob(ctx, d, size, r, nil, nil)
}

// ResumeBlob is PutBlob for a caller that can carry an upload over a restart.
// Where a blob is sent in parts, note is called, one call at a time, with a line of
// at most maxNote bytes once the upload has begun and after each part, and with ""
// when all lines before it are void: there is nothing to resume any more. earlier
// are the lines of the call before, those that are not void, in their order. A call
// that ends because ctx did, because r failed (but not with manifest.ErrMismatch), or
// because the bucket was not there or refused, leaves its parts for the next one, or
// for AbandonBlob; without a note it removes them.
//
// What the earlier lines say is not trusted. A part that was sent before is sent
// again unless its ETag is the MD5 of the bytes that r has there now, as it is at
// S3 unless the bucket encrypts with keys of its own (KMS): it may have been made of
// bytes that were found to be wrong since, or never reached the disk.
func (s *Store) ResumeBlob(ctx context.Context, d manifest.Digest, size int64, r io.ReaderAt, earlier []string, note func(string)) error {
	if size < 0 {
		return fmt.Errorf("storing %s: a size of %d bytes: %w", d, size, fs.ErrInvalid)
	}
	b := &blobWrite{s: s, d: d, key: blobKey(d), size: size, r: r}
	if size <= maxSinglePut {
		return b.run(ctx, b.whole)
	}
	p := &partWrite{blobWrite: b, up: readNotes(earlier, size), note: note}
	return b.run(ctx, p.run)
}

// blobWrite is one blob on its way into the bucket.
type blobWrite struct {
	s    *Store
	d    manifest.Digest
	key  string
	size int64
	r    io.ReaderAt

	unseen bool // it is sent without a look, where the bucket itself refuses what is there
}

// run stores the blob by send.
func (b *blobWrite) run(ctx context.Context, send func(context.Context) error) error {
	err := b.s.rights.writable()
	if err == nil {
		err = send(ctx)
	}
	if err != nil {
		return fmt.Errorf("storing %s: %w", b.d, err)
	}
	b.s.trust(b.d)
	b.s.setAlias(b.d, b.d)
	return nil
}

// there reports whether the bucket has the blob already. If it has something
// wrong in its place, that one's ETag is returned.
func (b *blobWrite) there(ctx context.Context) (ok bool, wrong string, err error) {
	obj, err := b.s.stat(ctx, b.key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, "", nil
	case err != nil:
		return false, "", err
	case obj.Size != b.size || b.s.distrusted(b.d, obj.ETag):
		return false, obj.ETag, nil
	}
	return true, "", nil
}

// look is there, or nothing for the first time where that is left to the bucket's
// refusal: one exchange for what is new instead of two. What was found wrong before
// is there.
func (b *blobWrite) look(ctx context.Context) (ok bool, wrong string, err error) {
	if b.unseen && b.s.rights.creates() && !b.s.suspected(b.d) {
		b.unseen = false
		return false, "", nil
	}
	return b.there(ctx)
}

// maxContests bounds how often a write starts over because others wrote meanwhile.
// The second look settles it, unless the winner's object is wrong, too.
const maxContests = 3

// whole sends the blob in one body.
func (b *blobWrite) whole(ctx context.Context) error {
	var err error
	for range maxContests {
		ok, wrong, lookErr := b.look(ctx)
		if ok || lookErr != nil {
			return lookErr
		}
		if err := landed(b.r, 0, b.size); err != nil {
			return err
		}
		opt := PutOptions{IfMatch: wrong, IfNoneMatch: wrong == "" && b.s.rights.creates()}
		if b.d.Algorithm() == manifest.SHA256 {
			opt.SHA256 = b.d.Hex() // the store refuses what is not d
		}
		if err = b.send(ctx, b.size, func(ctx context.Context) error {
			body := newSection(b.r, 0, b.size)
			_, err := b.s.bucket.Put(ctx, b.key, body, b.size, opt)
			return body.judge(err)
		}); err == nil {
			return nil
		}
		switch {
		case errors.Is(err, ErrPrecondition), wrong != "" && errors.Is(err, fs.ErrNotExist):
		case notImplemented(err) && opt.IfNoneMatch:
			b.s.rights.mu.Lock()
			b.s.rights.put = No
			b.s.rights.mu.Unlock()
		default:
			return err
		}
	}
	return err
}

// send makes a writing exchange of size bytes, a few at a time a host.
func (b *blobWrite) send(ctx context.Context, size int64, call func(context.Context) error) error {
	done, err := b.s.writes.take(ctx, size)
	if err != nil {
		return err
	}
	defer done()
	return b.s.write(ctx, size, call)
}

func notImplemented(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusNotImplemented
}

var scratch = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// sourceError is an error of the bytes, not of the bucket.
type sourceError struct{ error }

func (e sourceError) Unwrap() error { return e.error }

// An Awaiter is a source that can be waited for without being read.
type Awaiter interface {
	io.ReaderAt
	// Await waits until n bytes from off on, which are at least one, can be read. Its
	// errors are those of reading them.
	Await(off, n int64) error
}

// landed waits until n bytes from off on can be read. An exchange is begun only
// then: a connection that waits for a slow upstream's bytes is one that the store
// hangs up on. It costs a copy out of the page cache, unless the source says by
// itself what there is.
func landed(r io.ReaderAt, off, n int64) error {
	if a, ok := r.(Awaiter); ok && n > 0 {
		if err := a.Await(off, n); err != nil {
			return sourceError{fmt.Errorf("within %d bytes from %d on of the source: %w", n, off, err)}
		}
		return nil
	}
	return readTo(nil, r, off, n)
}

// A section is n bytes of a source from off on, that tells an error of the source from
// one of the bucket.
type section struct {
	*io.SectionReader
	source io.ReaderAt
	off    int64
	failed atomic.Pointer[error] // the SDKs read in goroutines of their own
}

func newSection(r io.ReaderAt, off, n int64) *section {
	return &section{SectionReader: io.NewSectionReader(r, off, n), source: r, off: off}
}

// Read implements io.Reader.
func (s *section) Read(p []byte) (int, error) {
	n, err := s.SectionReader.Read(p)
	if at, _ := s.Seek(0, io.SeekCurrent); err == io.EOF && at < s.Size() {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		s.failed.Store(&err)
	}
	return n, err
}

// judge is err, of an exchange that read the section, or why that could not be read.
func (s *section) judge(err error) error {
	if why := s.failed.Load(); err != nil && why != nil {
		return sourceError{fmt.Errorf("within %d bytes from %d on of the source: %w", s.Size(), s.off, *why)}
	}
	return err
}

// readTo reads n bytes from off on as they land, and hands them to w unless it is
// nil.
func readTo(w io.Writer, r io.ReaderAt, off, n int64) error {
	buf := scratch.Get().(*[256 << 10]byte)
	defer scratch.Put(buf)
	for n > 0 {
		got, err := r.ReadAt(buf[:min(n, int64(len(buf)))], off)
		if w != nil {
			w.Write(buf[:got]) // a hash takes everything
		}
		off += int64(got)
		n -= int64(got)
		if n > 0 && (err != nil || got == 0) {
			if err == io.EOF || err == nil {
				err = io.ErrUnexpectedEOF
			}
			return sourceError{fmt.Errorf("at byte %d of the source: %w", off, err)}
		}
	}
	return nil
}
