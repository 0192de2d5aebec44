package blobcache

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"hostlocal/manifest"
)

// fastest is where the reader stands that the stream may not outrun. The caller
// holds mu.
func (p *pass) fastest() (at int64, any bool) {
	for _, off := range p.at {
		if off >= p.lo && (!any || off > at) {
			at, any = off, true
		}
	}
	return at, any
}

// errBehind says that the window does not have the byte and will not.
var errBehind = errors.New("outside the window")

// read copies what the window has at off into buf, waiting for it.
func (p *pass) read(ctx context.Context, b *Blob, buf []byte, off int64) (int, error) {
	for {
		p.mu.Lock()
		if p.err != nil {
			defer p.mu.Unlock()
			return 0, p.err
		}
		if p.verified && off >= p.size {
			size := p.size
			p.mu.Unlock()
			if off > size {
				return 0, errSize // of what was sent before the disk failed
			}
			return 0, io.EOF
		}
		until := p.hi
		if !p.verified && (!p.said || until >= p.size) {
			until--
		}
		if off < p.lo || off > p.hi+int64(len(p.ring)) && p.size >= 0 {
			delete(p.at, b)
			p.tell()
			p.mu.Unlock()
			return 0, errBehind
		}
		if stood, ok := p.at[b]; !ok || stood != off {
			p.at[b] = off
			p.tell() // the stream may wait for somebody to stand somewhere
		}
		if off < until {
			n := 0
			for off < until && n < len(buf) {
				i := off % int64(len(p.ring))
				m := copy(buf[n:], p.ring[i:min(int64(len(p.ring)), i+until-off)])
				n, off = n+m, off+int64(m)
			}
			p.at[b] = off
			p.tell()
			p.mu.Unlock()
			return n, nil
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// passBuffer is what a reader of a pass copies at a time. A thousand clients with
// three connections each have 48 MiB of it.
const passBuffer = 16 << 10

var passBuffers = sync.Pool{New: func() any { return new([passBuffer]byte) }}

// copyTo sends [off, end) to w, end < 0 for all that follows. h, if not nil, has
// hashed all of the blob before off, and end is the blob's: then the last byte is
// sent only if what this reader got has the digest. The pass's own hash says
// nothing of what came by a range of the reader's own.
func (p *pass) copyTo(ctx context.Context, b *Blob, w io.Writer, off, end int64, h hash.Hash) error {
	buf := passBuffers.Get().(*[passBuffer]byte)
	defer passBuffers.Put(buf)
	for end < 0 || off < end {
		part := buf[:]
		if end >= 0 {
			part = part[:min(int64(len(part)), end-off)]
		}
		n, err := p.read(ctx, b, part, off)
		switch {
		case errors.Is(err, errBehind):
			if off, err = p.direct(ctx, b, both(w, h), off, end); err != nil {
				return err
			}
			continue
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		off += int64(n)
		if h != nil {
			h.Write(part[:n])
			if p.ends(off) && p.digest.Algorithm().Sum(h) != p.digest {
				return fmt.Errorf("%w: of what came in ranges", manifest.ErrMismatch)
			}
		}
		if _, err := w.Write(part[:n]); err != nil {
			return err
		}
	}
	return nil
}

func both(w io.Writer, h hash.Hash) io.Writer {
	if h == nil {
		return w
	}
	return io.MultiWriter(h, w)
}

// ends reports whether the blob ends at off.
func (p *pass) ends(off int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.verified && off == p.size
}

// direct sends [off, end) from a range of the reader's own, but for the blob's
// last byte, which waits for the full pass and comes out of the window. It
// returns how far it came; the caller goes on from there. What a source does to this
// reader is not held against it for others.
func (p *pass) direct(ctx context.Context, b *Blob, w io.Writer, off, end int64) (int64, error) {
	size := p.length()
	if size < 0 {
		return off, fmt.Errorf("the blob's size is not known, and the reader fell behind: %w", errBusy)
	}
	if off >= size-1 {
		return off, p.settled(ctx) // the window has it then
	}
	if b.own == nil {
		b.own = newOpener(b.want.Sources, nil)
		b.own.preferOther("") // the first, and no race
	}
	stop := min(clip(end, size), size-1)
	a, err := b.own.open(ctx, request{off: off, n: stop - off})
	if err != nil {
		return off, err
	}
	defer a.body.Close()
	defer context.AfterFunc(ctx, func() { a.body.Close() })()
	if a.size >= 0 && a.size != size {
		b.own.exclude(a.by, errSize)
		return off, b.own.stuck()
	}
	if a.from < off {
		if _, err := io.CopyN(io.Discard, a.body, off-a.from); err != nil {
			return off, err
		}
	}
	n, err := io.CopyN(w, a.body, stop-off)
	if err != nil {
		b.own.strike(a.by, n, err)
		if serr := b.own.stuck(); serr != nil || n == 0 {
			return off + n, err
		}
	}
	return off + n, nil
}

// settled waits until the full pass has ended, and returns how.
func (p *pass) settled(ctx context.Context) error {
	for {
		p.mu.Lock()
		verified, err, changed := p.verified, p.err, p.changed
		p.mu.Unlock()
		if verified || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// readAt is ReadAt over a pass.
func (p *pass) readAt(ctx context.Context, b *Blob, buf []byte, off int64) (n int, err error) {
	for n < len(buf) {
		m, err := p.read(ctx, b, buf[n:], off+int64(n))
		if err != nil {
			return n, err // a write-back that falls behind gives up: it was a favour
		}
		n += m
	}
	return n, nil
}
