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
// matched the digest. Of a blob of which nobody says how long it is there are no
// ranges: its stream waits for the first reader, and a reader far ahead for the stream.
type pass struct {
	c      *Cache
	digest manifest.Digest
	origin string // Want.Origin of who began it
	opener *opener
	ctx    context.Context // ends when the last reader leaves, or the cache closes
	cancel context.CancelFunc
	begun  chan struct{} // closed when the source has answered, or failed

	readers int  // the cache's mu guards it
	ended   bool // the stream has; the cache's mu guards it

	mu       sync.Mutex // guards the fields below; taken after the cache's, before the windows'
	size     int64      // -1 unknown
	said     bool       // size was said by a source, not only by the descriptor
	memory   int64      // bytes taken from the cache's windows
	ring     []byte     // holds bytes [lo, hi): byte i at ring[i%len(ring)]
	lo, hi   int64
	at       map[*Blob]int64 // where the readers within the window stand
	verified bool
	err      error
	open     bool
	changed  chan struct{}
}

func (c *Cache) newPass(d manifest.Digest, w Want) *pass {
	p := &pass{
		c: c, digest: d, origin: w.Origin, opener: newOpener(w.Sources, c.work.Go), size: w.Size,
		begun: make(chan struct{}), changed: make(chan struct{}), at: make(map[*Blob]int64),
	}
	if p.size == 0 {
		p.size = -1 // as in a fill
	}
	p.ctx, p.cancel = context.WithCancel(c.ctx)
	return p
}

// joinPass has b read from d's pass, which it starts if there is none.
func (c *Cache) joinPass(ctx context.Context, b *Blob) (*pass, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, errClosed
	}
	p := c.passes[b.digest]
	if p == nil {
		p = c.newPass(b.digest, b.want)
		if s := c.suspects[b.digest]; time.Now().Before(s.until) {
			p.opener.preferOther(s.source)
		}
		c.passes[b.digest] = p
		c.work.Go(p.run)
	}
	p.readers++
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
	last, ended := p.readers == 0, p.ended
	if last && p.c.passes[p.digest] == p {
		delete(p.c.passes, p.digest)
	}
	p.c.mu.Unlock()
	p.mu.Lock()
	delete(p.at, b)
	if last && ended {
		p.shrink()
	}
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
	}
	p.c.mu.Lock()
	p.ended = true
	if err != nil && p.c.passes[p.digest] == p {
		delete(p.c.passes, p.digest) // the next one asks anew
	}
	useless := err != nil || p.readers == 0
	p.c.mu.Unlock()
	result := "passed"
	switch {
	case errors.Is(err, manifest.ErrMismatch):
		result = "mismatch"
		p.c.suspect(p.digest, p.opener.name())
	case p.ctx.Err() != nil && err != nil:
		result = "stopped"
	case err != nil:
		result = "failed"
	}
	p.mu.Lock()
	p.err = err
	p.verified = err == nil
	if useless {
		p.shrink()
	}
	p.begin()
	p.tell()
	p.mu.Unlock()
	p.c.stats.fill(p.opener.name(), result)
}

func (p *pass) takeWindow() error {
	n := int64(windowMax)
	if size := p.length(); size > 0 {
		n = min(n, max(windowMin, size))
	}
	n, err := p.c.windows.take(p.ctx, n, p.c.reclaimWindow)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.memory, p.ring = n, make([]byte, n)
	p.mu.Unlock()
	return nil
}

// shrink gives the window's memory back, but for the byte that those who fell behind
// come back for: the blob's last. It reports whether there was any. The caller holds
// mu, and the stream has ended.
func (p *pass) shrink() bool {
	if p.memory == 0 {
		return false
	}
	var last byte
	if p.hi > 0 {
		last = p.ring[(p.hi-1)%int64(len(p.ring))]
	}
	p.ring, p.lo = []byte{last}, max(p.lo, p.hi-1)
	p.c.windows.give(p.memory)
	p.memory = 0
	return true
}

// reclaimWindow takes its memory from a pass that has ended and has readers left: a
// slow one goes on with ranges of its own, and holds up nobody else's blob.
func (c *Cache) reclaimWindow() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.passes {
		if !p.ended {
			continue
		}
		p.mu.Lock()
		shrunk := p.shrink()
		p.mu.Unlock()
		if shrunk {
			return true
		}
	}
	return false
}

// stream reads the blob, resuming where a body breaks off.
func (p *pass) stream() error {
	h := p.digest.Algorithm().New()
	for {
		a, err := p.opener.open(p.ctx, request{off: p.hi, n: -1})
		if err != nil {
			return err
		}
		if !p.adopt(a.size) {
			a.body.Close()
			p.opener.exclude(a.by, errSize)
			if err := p.opener.stuck(); err != nil {
				return err
			}
			continue
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
		case errors.Is(err, errEndless):
			return err
		}
		p.opener.strike(a.by, p.hi-start, err)
		if err := p.opener.stuck(); err != nil {
			return err
		}
	}
}

// errEndless ends a blob of which nobody says how long it is, and which has become
// longer than the whole cache: no client should be left with a body that never ends.
var errEndless = fmt.Errorf("%w: it is longer than the cache, and no source says how long", manifest.ErrMismatch)

// adopt takes the size that a source said, -1 for none. It reports false if another
// one was said before, or more bytes than that have come.
func (p *pass) adopt(size int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if size < 0 {
		return true
	}
	if size < p.hi || size != p.size && (p.said || p.hi > 0 && p.size >= 0) {
		return false
	}
	p.size, p.said = size, true
	return true
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
		endless := p.size < 0 && p.hi > p.c.opt.Budget
		p.begin()
		p.mu.Unlock()
		if endless {
			return errEndless
		}
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
		if !any && p.size < 0 {
			fastest, any = p.lo, true // whoever is about to read has no other way to the bytes
		}
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
