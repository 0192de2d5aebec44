package blobcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"syscall"
	"time"

	"hostlocal/manifest"
)

// A Blob is one caller's hold on a blob: bytes that are complete here, in memory
// or in a file, or a fill, or a passing through. It is for one goroutine, but
// ReadAt may be called from several. Close it.
type Blob struct {
	c      *Cache
	digest manifest.Digest
	want   Want
	size   int64
	mod    time.Time

	mem   []byte   // complete, in memory
	file  *os.File // complete, or the partial file of the fill
	entry *entry   // held while file is a complete file
	fill  *fill
	late  bool // the fill had verified all when this reader came: only the name is missing
	pass  *pass
	own   *opener // of ranges that only this reader of a pass asks for
}

// Size returns the blob's length in bytes, or -1 while nobody knows it.
func (b *Blob) Size() int64 {
	switch {
	case b.fill != nil:
		b.fill.mu.Lock()
		defer b.fill.mu.Unlock()
		return b.fill.size
	case b.pass != nil:
		return b.pass.length()
	}
	return b.size
}

// Digest is the blob's name.
func (b *Blob) Digest() manifest.Digest { return b.digest }

// Source is what X-Registryd-Source says: "disk" for what was complete here, "fill",
// or, for what passes through uncached, the source's name.
func (b *Blob) Source() string {
	switch {
	case b.late:
		return "disk"
	case b.fill != nil:
		return "fill"
	case b.pass != nil:
		return b.pass.opener.name()
	}
	return "disk"
}

// Bytes returns all of a complete blob that is kept in memory, else nil. Nobody
// may write to them.
func (b *Blob) Bytes() []byte { return b.mem }

// File returns the complete file, for http.ServeContent, or nil: look at Bytes
// then, and use CopyRange if there are none. Close closes it.
func (b *Blob) File() *os.File {
	if b.entry == nil && b.fill != nil || b.pass != nil {
		return nil
	}
	return b.file
}

// Close releases the hold. A fill goes on without it.
func (b *Blob) Close() error {
	if b.file != nil {
		b.file.Close()
	}
	if b.fill != nil {
		b.fill.leave()
	}
	if b.pass != nil {
		b.pass.leave(b)
	}
	b.c.release(b.entry)
	return nil
}

// CopyRange sends the n bytes from off on to w as they land, n < 0 for all that
// follow, flushing w (if it is an http.Flusher) before each wait. The blob's last
// byte is sent only after the digest matched. An error after the first byte means
// that the rest must not be sent: break the connection.
func (b *Blob) CopyRange(ctx context.Context, w io.Writer, off, n int64) error {
	end := int64(-1)
	if n >= 0 {
		end = off + n
	}
	switch {
	case b.mem != nil:
		_, err := copyFrom(w, sliceReader(b.mem), off, clip(end, b.size))
		return err
	case b.fill == nil && b.pass == nil:
		_, err := copyFrom(w, b.file, off, clip(end, b.size))
		if isUnreadable(err) {
			b.Unreadable(err)
		}
		return err
	}
	all := off == 0 && (end < 0 || b.Size() >= 0 && end >= b.Size())
	if b.pass == nil {
		at, err := b.copyFill(ctx, w, off, end)
		if !errors.Is(err, errStorage) {
			return err
		}
		if err := b.leaveDisk(ctx, off, at); err != nil {
			return err
		}
		off = at
	}
	if !all {
		return b.pass.copyTo(ctx, b, w, off, end, nil)
	}
	h := b.digest.Algorithm().New()
	if off > 0 {
		if _, err := io.Copy(h, io.NewSectionReader(b.file, 0, off)); err != nil {
			return fmt.Errorf("hashing what was sent of %s: %w", b.digest, err)
		}
	}
	return b.pass.copyTo(ctx, b, w, off, end, h)
}

// leaveDisk has b go on by passing through, because the disk failed under its fill.
// What the client has had, [start, at), was never verified, and the pass verifies
// only its own bytes: so they are compared, or a wrong beginning could end well.
// Following the stream from start on also keeps all these clients in its window:
// were each to go on at once, each would ask the source for a range of its own.
func (b *Blob) leaveDisk(ctx context.Context, start, at int64) (err error) {
	if b.pass, err = b.c.joinPass(ctx, b); err != nil {
		return err
	}
	return b.pass.copyTo(ctx, b, &comparison{with: b.file, off: start}, start, at, nil)
}

// comparison is a writer that takes only the bytes that with has from off on.
type comparison struct {
	with io.ReaderAt
	off  int64
}

func (c *comparison) Write(p []byte) (int, error) {
	had := make([]byte, len(p))
	if n, err := c.with.ReadAt(had, c.off); n < len(p) {
		return 0, fmt.Errorf("reading byte %d of what was sent: %w", c.off+int64(n), err)
	}
	if !bytes.Equal(had, p) {
		return 0, fmt.Errorf("%w: the source sends other bytes than before", manifest.ErrMismatch)
	}
	c.off += int64(len(p))
	return len(p), nil
}

// copyFill sends [off, end) as it lands, and returns how far it came.
func (b *Blob) copyFill(ctx context.Context, w io.Writer, off, end int64) (int64, error) {
	flush := func() {
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
	}
	for begun := false; end < 0 || off < end; begun = true {
		until, err := b.fill.wait(ctx, b, off, flush)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return off, err
		}
		if !begun {
			// The network's ReadFrom would send the header by itself, too, but from
			// deeper in the stack, which doubles that of each reader for it.
			flush()
		}
		n, err := copyFrom(w, b.file, off, clip(end, until))
		off += n
		if isUnreadable(err) {
			err = fmt.Errorf("%w: reading byte %d: %w", errStorage, off, err)
		}
		if err != nil {
			if why := b.fill.failure(); errors.Is(why, manifest.ErrMismatch) {
				err = why // the bytes went from under this reader
			}
			return off, err
		}
	}
	return off, nil
}

// clip returns the smaller of a wanted end, which is negative for none, and the
// end that there is.
func clip(want, have int64) int64 {
	if want < 0 {
		return have
	}
	return min(want, have)
}

// copyFrom sends [off, end) of r, and returns how many bytes went. Of a file it hands
// w a *os.File behind a limit, which is what the network's ReadFrom makes a sendfile
// of; and only bytes that are there, for sendfile would send holes as zeros.
func copyFrom(w io.Writer, r io.ReaderAt, off, end int64) (int64, error) {
	if off >= end {
		return 0, nil
	}
	f, ok := r.(*os.File)
	if !ok {
		return io.Copy(w, io.NewSectionReader(r, off, end-off))
	}
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		return 0, err
	}
	if to, ok := w.(io.ReaderFrom); ok { // as io.CopyN, with less of the stack
		n, err := to.ReadFrom(&io.LimitedReader{R: f, N: end - off})
		if err == nil && n < end-off {
			err = io.EOF
		}
		return n, err
	}
	return io.CopyN(w, f, end-off)
}

type sliceReader []byte

func (s sliceReader) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(s)) {
		return 0, io.EOF
	}
	n := copy(p, s[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// ReadAt is io.ReaderAt over a blob that may still be growing: it waits until the
// bytes have landed, or the fill has failed. It is what a write-back uploads from.
func (b *Blob) ReadAt(p []byte, off int64) (int, error) {
	return b.ReadAtContext(context.Background(), p, off)
}

// ReadAtContext is ReadAt whose wait ends with ctx.
func (b *Blob) ReadAtContext(ctx context.Context, p []byte, off int64) (n int, err error) {
	switch {
	case b.mem != nil:
		return sliceReader(b.mem).ReadAt(p, off)
	case b.pass != nil:
		return b.pass.readAt(ctx, b, p, off)
	case b.fill == nil:
		n, err = b.file.ReadAt(p, off)
		if errors.Is(err, io.EOF) && off+int64(n) < b.size {
			err = io.ErrUnexpectedEOF // somebody truncated it: that is not the blob's end
		}
		if isUnreadable(err) {
			b.Unreadable(err)
		}
		return n, err
	}
	for n < len(p) {
		until, err := b.fill.wait(ctx, nil, off+int64(n), nil)
		if err != nil {
			return n, err
		}
		m, err := b.file.ReadAt(p[n:min(int64(len(p)), until-off)], off+int64(n))
		n += m
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if m == 0 {
			return n, fmt.Errorf("reading byte %d of %s: %w", off+int64(n), b.digest, err)
		}
	}
	return n, nil
}

// AwaitContext waits, at most until ctx ends, until n bytes from off on can be read. Its
// errors are those of reading them. What passes through is read, and has to be asked for
// again.
func (b *Blob) AwaitContext(ctx context.Context, off, n int64) error {
	switch {
	case b.pass != nil:
		_, err := io.CopyN(io.Discard, io.NewSectionReader(contextReader{b, ctx}, off, n), n)
		return err
	case b.fill == nil:
		if off+n > b.size {
			return io.EOF
		}
		return nil
	}
	for end := off + n; off < end; {
		until, err := b.fill.wait(ctx, nil, off, nil)
		if err != nil {
			return err
		}
		off = until
	}
	return nil
}

// contextReader reads a blob for as long as ctx lasts.
type contextReader struct {
	b   *Blob
	ctx context.Context
}

func (r contextReader) ReadAt(p []byte, off int64) (int, error) {
	return r.b.ReadAtContext(r.ctx, p, off)
}

// errNoFile says that a blob does not lie in a file.
var errNoFile = errors.New("the blob does not lie in a file")

// SyscallConn implements syscall.Conn: what can be read of the blob can be read in its
// file, at the same offset, until Close. A blob in memory, and one that passes through, has
// none.
func (b *Blob) SyscallConn() (syscall.RawConn, error) {
	if b.file == nil || b.pass != nil {
		return nil, errNoFile
	}
	return b.file.SyscallConn()
}
