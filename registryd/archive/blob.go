package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"hostlocal/manifest"
)

// errChanged says that an archive is being written to while it is read.
var errChanged = fmt.Errorf("%w: it was changed while it was read", ErrArchive)

// A source is a blob's bytes on their way into the store: those that were checked. A
// file that was touched since is an error, and nothing of it gets in.
type source struct {
	*content
	was  stamp
	read func(n int)
}

// open returns the bytes of a blob that was checked. read is told of each read.
func (b *Blob) open(read func(int)) (*source, error) {
	c, err := b.tree.open(b.file)
	if err != nil {
		return nil, err
	}
	return &source{c, b.checked, read}, nil
}

func (s *source) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.content.ReadAt(p, off)
	s.read(n)
	if now, statErr := s.stamp(); statErr != nil || now != s.was {
		return 0, errors.Join(errChanged, statErr)
	}
	return n, err
}

// close closes the file.
func (s *source) close() error { return s.content.close() }

// check reads the blob and compares. checked is told how many bytes were read.
func (b *Blob) check(ctx context.Context, checked func(int)) error {
	if b.checked != (stamp{}) { // its digest is what was read
		checked(int(b.Size))
		return nil
	}
	c, err := b.tree.open(b.file)
	if err != nil {
		return err
	}
	defer c.close()
	was, err := c.stamp()
	if err != nil {
		return err
	}
	alg := b.Digest.Algorithm()
	h := alg.New()
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := c.Read(buf[:])
		h.Write(buf[:n])
		checked(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("reading %.100q: %w", b.file, err)
		}
	}
	if c.Size() != b.Size {
		return errChanged
	}
	if got := alg.Sum(h); got != b.Digest {
		return fmt.Errorf("%w: %.100q should be %s and is %s, so nothing of the image was imported; was the archive copied whole?", manifest.ErrMismatch, b.file, b.Digest, got)
	}
	if now, err := c.stamp(); err != nil || now != was {
		return errors.Join(errChanged, err)
	}
	b.checked = was
	return nil
}

// bufferSize is what is read at once: a disk's read-ahead, and little beside its seek.
const bufferSize = 256 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}
