package blobcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"hostlocal/manifest"
)

const (
	// windowMax and windowMin bound the memory of one blob that passes through. A
	// reader up to windowMax behind the fastest is still served by the one stream;
	// below windowMin the stream would stop and go with each packet.
	windowMax = 4 << 20
	windowMin = 512 << 10

	// windowWait is how long a blob waits for memory when many others pass
	// through, before it answers that it cannot be had.
	windowWait = 5 * time.Second
)

// A pass hands a blob through that the disk has no room for, or cannot take: one
// stream from the source, hashed, in a window of memory that all its readers share.
// The stream runs at most a window ahead of its fastest reader. A reader that the
// window leaves behind, or that wants bytes far ahead of it, goes on with a range
// of its own; but nobody gets the blob's last byte before the one full pass has
// matched the digest.
type pass struct {
	c      *Cache
	digest manifest.Digest
	origin string // Want.Origin of who began it
	opener *opener
	ctx    context.Context // ends when the last reader leaves, or the cache closes
	cancel context.CancelFunc
	begun  chan struct{} // closed when the source has answered, or failed
	memory int64         // bytes taken from the cache's window

	mu       sync.Mutex // guards the fields below
	size     int64      // -1 unknown
	ring     []byte     // holds bytes [lo, hi): byte i at ring[i%len(ring)]
	lo, hi   int64
	at       map[*Blob]int64 // where the readers within the window stand
	readers  int
	verified bool
	err      error
	open     bool
	changed  chan struct{}
}

// joinPass has b read from d's pass, which it starts if there is none.
func (c *Cache) joinPass(ctx context.Context, b *Blob) (*pass, error) {
	c.mu.Lock()
	p := c.passes[b.digest]
	if p == nil {
		p = &pass{c: c, digest: b.digest, origin: b.want.Origin, opener: newOpener(b.want.Sources), size: b.want.Size,
			begun: make(chan struct{}), changed: make(chan struct{}), at: make(map[*Blob]int64)}
		p.ctx, p.cancel = context.WithCancel(c.ctx)
		c.passes[b.digest] = p
		c.work.Go(p.run)
	}
	p.readers++ // under c.mu: run looks at it under both
	c.mu.Unlock()
	select {
	case <-p.begun:
	case <-ctx.Done():
		p.leave(b)
		return nil, ctx.Err()
	}
	p.mu.Lock()
	err := p.err
	p.mu.Unlock()
	if err != nil {
		p.leave(b)
		if p.origin != b.want.Origin {
			err = fmt.Errorf("%w: %w", errAnothers, err)
		}
		return nil, err
	}
	return p, nil
}

// leave ends b's reading. The stream ends with its last reader: there is nothing
// that it would be kept in.
func (p *pass) leave(b *Blob) {
	p.c.mu.Lock()
	p.readers--
	last := p.readers == 0
	if last && p.c.passes[p.digest] == p {
		delete(p.c.passes, p.digest)
	}
	p.c.mu.Unlock()
	p.mu.Lock()
	delete(p.at, b)
	p.tell()
	p.mu.Unlock()
	if last {
		p.cancel()
	}
}

func (p *pass) length() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.size
}

// run streams the blob from its first byte to its last.
func (p *pass) run() {
	err := p.takeWindow()
	if err == nil {
		err = p.stream()
		p.c.windows.give(p.memory)
	}
	p.c.mu.Lock()
	if err != nil && p.c.passes[p.digest] == p {
		delete(p.c.passes, p.digest) // the next one asks anew
	}
	p.c.mu.Unlock()
	result := "passed"
	if errors.Is(err, manifest.ErrMismatch) {
		result = "mismatch"
		p.c.suspect(p.digest, p.opener.name())
	} else if err != nil && p.ctx.Err() == nil {
		result = "failed"
	}
	p.c.stats.fill(p.opener.name(), result)
	p.mu.Lock()
	p.err = err
	p.verified = err == nil
	p.begin()
	p.tell()
	p.mu.Unlock()
}

func (p *pass) takeWindow() error {
	n := int64(windowMax)
	if p.size > 0 {
		n = min(n, max(windowMin, p.size))
	}
	n, err := p.c.windows.take(p.ctx, n)
	p.memory, p.ring = n, make([]byte, n)
	return err
}

// stream reads the blob, resuming where a body breaks off.
func (p *pass) stream() error {
	h := p.digest.Algorithm().New()
	for {
		a, err := p.opener.open(p.ctx, request{off: p.hi, n: -1})
		if err != nil {
			return err
		}
		if err := p.sized(a); err != nil {
			a.body.Close()
			return err
		}
		start := p.hi
		err = p.pump(a, h)
		a.body.Close()
		switch {
		case p.ctx.Err() != nil:
			return p.ctx.Err()
		case err == nil:
			if got := p.digest.Algorithm().Sum(h); got != p.digest {
				return fmt.Errorf("%w: want %s, got %s", manifest.ErrMismatch, p.digest, got)
			}
			p.c.clear(p.digest)
			return nil
		}
		p.opener.strike(a.by, p.hi-start, err)
		if err := p.opener.stuck(); err != nil {
			return err
		}
	}
}

// sized adopts the length that a source said. After the first byte it must be the
// one that the readers were told.
func (p *pass) sized(a answer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a.size >= 0 && p.hi > 0 && a.size != p.size {
		return errSize
	}
	if a.size >= 0 {
		p.size = a.size
	}
	return nil
}

// pump moves one body into the window. nil says that the blob is all there.
func (p *pass) pump(a answer, h io.Writer) error {
	stop := context.AfterFunc(p.ctx, func() { a.body.Close() })
	defer stop()
	if a.from < p.hi {
		if _, err := io.CopyN(io.Discard, a.body, p.hi-a.from); err != nil {
			return err
		}
	}
	buf := getBuffer()
	defer putBuffer(buf)
	for {
		p.mu.Lock()
		left := int64(len(*buf))
		if p.size >= 0 {
			left = min(left, p.size-p.hi)
		}
		p.begin()
		p.mu.Unlock()
		if left == 0 {
			return nil
		}
		n, err := a.body.Read((*buf)[:min(left, windowMin/2)])
		h.Write((*buf)[:n])
		if perr := p.put((*buf)[:n]); perr != nil {
			return perr
		}
		if errors.Is(err, io.EOF) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.size < 0 {
				p.size = p.hi
			}
			if p.hi < p.size {
				return io.ErrUnexpectedEOF
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// put appends b to the window, once the fastest reader leaves room for it.
func (p *pass) put(b []byte) error {
	for {
		p.mu.Lock()
		fastest, any := p.fastest()
		if !any || p.hi+int64(len(b))-fastest <= int64(len(p.ring)) {
			break
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-p.ctx.Done():
			return p.ctx.Err()
		}
	}
	defer p.mu.Unlock()
	for len(b) > 0 {
		n := copy(p.ring[p.hi%int64(len(p.ring)):], b)
		b = b[n:]
		p.hi += int64(n)
	}
	p.lo = max(p.lo, p.hi-int64(len(p.ring)))
	p.tell()
	return nil
}

// begin lets joinPass return. The caller holds mu.
func (p *pass) begin() {
	if !p.open {
		p.open = true
		close(p.begun)
	}
}

// tell wakes readers and stream. The caller holds mu.
func (p *pass) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
}
