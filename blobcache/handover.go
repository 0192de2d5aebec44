package blobcache

import (
	"context"
	"fmt"
	"hash"
	"io"

	"hostlocal/manifest"
)

// handOver goes on by passing through for a reader of [first, end) that has had
// [first, off) from a fill whose disk failed. The pass proves its own bytes, and
// nobody has proven those of the fill: a source that was wrong then and is right
// now would make a whole of them. So the reader's own bytes are hashed, the first of
// them read back from the file, and it gets the last one only if all match. A range
// that does not begin at the first byte cannot be proven, and ends here; its client
// asks again for what it lacks.
func (b *Blob) handOver(ctx context.Context, w io.Writer, first, off, end int64) error {
	if first > 0 && off > first {
		return fmt.Errorf("the range is not proven so far: %w", errStorage)
	}
	if off == first {
		return b.pass.copyTo(ctx, b, w, off, end)
	}
	p := &prover{w: w, sum: b.digest.Algorithm().New(), digest: b.digest, size: b.pass.length, off: off}
	if _, err := io.Copy(p.sum, io.NewSectionReader(b.file, 0, off)); err != nil {
		return fmt.Errorf("%w: reading back what was sent: %w", errStorage, err)
	}
	if err := b.pass.copyTo(ctx, b, p, off, end); err != nil {
		return err
	}
	if size := p.size(); end >= 0 && end < size || p.proven {
		return nil
	}
	return fmt.Errorf("%w: %d bytes were sent of a blob of %d", manifest.ErrMismatch, off, p.size())
}

// A prover is a writer of a blob's bytes up to its end, and lets the last of them
// through only if all are the digest's.
type prover struct {
	w      io.Writer
	sum    hash.Hash // of the bytes before off
	digest manifest.Digest
	size   func() int64 // of the blob in bytes; known when its last byte is written
	off    int64
	proven bool
}

// Write implements io.Writer.
func (p *prover) Write(b []byte) (int, error) {
	p.sum.Write(b)
	p.off += int64(len(b))
	if p.off == p.size() {
		if got := p.digest.Algorithm().Sum(p.sum); got != p.digest {
			return 0, fmt.Errorf("%w: want %s, got %s from two attempts", manifest.ErrMismatch, p.digest, got)
		}
		p.proven = true
	}
	return p.w.Write(b)
}
