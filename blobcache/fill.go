package blobcache

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"sync"
	"time"

	"hostlocal/manifest"
)

// A fill brings one blob onto the disk. There is one a digest, owned by the cache
// and not by the clients who wait for it: it goes on when they leave.
//
//	sources ──Open(range)──> fetch ──pwrite──> partial file ──sendfile──> readers
//	                         fetch ──────────>      │   (each at its own offset)
//	                         fetch ──────────>      └──pread──> hash of the prefix
//
// Several fetches land bytes in disjoint claims; landed says which bytes are
// there; the hash follows the prefix. Readers may have every byte that has landed
// but the blob's last, which is theirs when the digest has matched: so nobody can
// end well with wrong bytes, and whoever is early waits only for the last byte.
type fill struct {
	c      *Cache
	digest manifest.Digest
	want   Want
	ctx    context.Context // ends with the cache, or when the fill is decided
	cancel context.CancelFunc

	opener *opener
	part   *partial // set before any fetch starts; nil until then
	single bool     // one source for the whole blob: there was a mismatch just now
	wake   chan struct{}
	grown  chan struct{} // the prefix has grown: for the hash

	answered chan struct{} // closed when Get may return: bytes flow, or the fill has ended
	ended    chan struct{} // closed when the fill has left the cache

	mu       sync.Mutex // guards all below; no I/O and no other lock but the opener's under it
	size     int64      // bytes, -1 unknown
	said     bool       // size was said by a source, not only by the descriptor
	sizedBy  *candidate // that source; nil for an earlier process's
	landed   spans
	roomed   spans // what the ledger has given room for
	taken    int64 // bytes of the ledger's that this fill holds
	owed     int64 // what taken was of a file that is gone, but not for its readers
	promised int64 // bytes of the ledger's that it may still take
	claims   []*claim
	waiting  map[*Blob]int64 // the byte each waiting reader waits for
	asleep   int             // how many wait, those that are in no hurry included
	hashed   int64
	verified bool
	only     *candidate // the one source of a single fill
	fatal    error      // why no fetch can go on
	err      error      // why it failed: set when it has ended
	open     bool       // answered is closed
	readers  int
	entry    *entry        // held for the readers once published
	changed  chan struct{} // closed and replaced when readers should look again
	told     time.Time     // when that was last
	untold   int64         // bytes that landed since
	timer    *time.Timer   // tells the readers of what landed since
}

// errStorage is wrapped by the error of a fill whose disk failed it, or had no
// room: its readers go on by passing through.
var errStorage = errors.New("the cache folder failed")

// errPublished ends a fill that found the blob complete when it started.
var errPublished = errors.New("already complete")

func (c *Cache) newFill(d manifest.Digest, w Want, suspected string) *fill {
	ctx, cancel := context.WithCancel(c.ctx)
	if w.Size == 0 {
		w.Size = -1 // it costs nothing to hear that from a source
	}
	f := &fill{
		c: c, digest: d, want: w, ctx: ctx, cancel: cancel,
		opener:   newOpener(w.Sources, c.work.Go),
		wake:     make(chan struct{}, 1),
		grown:    make(chan struct{}, 1),
		answered: make(chan struct{}),
		ended:    make(chan struct{}),
		changed:  make(chan struct{}),
		waiting:  make(map[*Blob]int64),
		size:     w.Size,
	}
	if suspected != "" {
		f.single = true
		f.opener.preferOther(suspected)
	}
	return f
}

// run is the fill's life. It ends when the blob is published, or the fill has
// failed, or the cache is closed.
func (f *fill) run() {
	err := f.begin()
	for err == nil {
		if err = f.fetchAll(); err == nil || !f.again(err) {
			break
		}
		err = nil
	}
	f.cancel()
	f.finish(err)
}

// begin prepares the disk: what an earlier fill left is picked up.
func (f *fill) begin() error {
	if f.c.Has(f.digest) {
		return errPublished // it was published between the caller's look and this fill
	}
	part, h, landed, blocks, err := f.c.openPartial(f.digest)
	if err != nil {
		return fmt.Errorf("%w: %w", errStorage, err)
	}
	f.part = part
	f.c.ledger.settle(-blocks, -blocks) // no longer to be evicted
	f.mu.Lock()
	f.taken = blocks
	// If a descriptor and the earlier fill's source speak of two lengths, one of
	// them is wrong, and whose the bytes are nobody knows.
	agreed := f.want.Size < 0 || f.want.Size == h.Size
	if len(landed) > 0 && !f.single && agreed {
		f.landed, f.roomed = landed, append(spans(nil), landed...)
		f.size, f.said = h.Size, landed.until(0) == h.Size
		f.answer() // what has landed can be had at once
	}
	size := f.size
	f.mu.Unlock()
	if size >= 0 {
		return f.sized()
	}
	return nil
}

// sized does what can be done once the size is known: the ledger promises the
// room, and the map begins.
func (f *fill) sized() error {
	f.mu.Lock()
	size, landed := f.size, append(spans(nil), f.landed...)
	need := max(0, size-landed.sum()+slack(size)) - f.promised
	f.mu.Unlock()
	_, held, _ := f.c.index.sums()
	held -= f.c.uploads.evictable(time.Now()) // which the ledger takes for fixed
	if err := f.c.ledger.promise(need, held); err != nil {
		return fmt.Errorf("%w: %w", errStorage, err)
	}
	f.mu.Lock()
	f.promised += need
	f.mu.Unlock()
	if size > mapStep {
		h := mapHeader{Size: size, Origin: f.want.Origin}
		if err := f.part.startMap(h, landed); err != nil {
			return fmt.Errorf("%w: %w", errStorage, err)
		}
	}
	return nil
}

// slack is what a partial file of size bytes may take beyond them: its map, of
// recordSize bytes each mapStep, and the file system's own blocks for the extents of
// a file written in many places.
func slack(size int64) int64 {
	return 16<<10 + roundUp(max(size, 0)/mapStep*recordSize*2)
}

// fetchAll keeps fetches running until the blob is verified, and waits until they
// have ended. The error is why it could not be.
func (f *fill) fetchAll() error {
	ctx, cancel := context.WithCancel(f.ctx)
	var fetches sync.WaitGroup
	defer fetches.Wait()
	defer cancel()
	verdict := make(chan error, 1)
	fetches.Go(func() { verdict <- f.hash(ctx) })
	for {
		t := f.terms()
		f.mu.Lock()
		for cl := f.plan(t); cl != nil; cl = f.plan(t) {
			f.claims = append(f.claims, cl)
			fetches.Go(func() { f.fetch(ctx, cl) })
		}
		err := f.fatal
		f.mu.Unlock()
		if err != nil {
			return err
		}
		select {
		case <-f.wake:
		case err := <-verdict:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hash follows the contiguous prefix and returns nil once all of it has matched
// the digest.
func (f *fill) hash(ctx context.Context) error {
	h := f.digest.Algorithm().New()
	for {
		f.mu.Lock()
		at, whole := f.hashed, f.said && f.hashed == f.size
		until := f.landed.until(at)
		f.mu.Unlock()
		switch {
		case whole:
			return f.compare(h)
		case at < until:
			if err := f.hashMore(h, at, until); err != nil {
				return err
			}
			continue
		}
		select {
		case <-f.grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hashMore hashes a buffer's worth of [at, until). Between two of them it holds no
// buffer: most fills are waiting most of the time.
func (f *fill) hashMore(h hash.Hash, at, until int64) error {
	buf := getBuffer()
	defer putBuffer(buf)
	b := (*buf)[:min(int64(len(*buf)), until-at)]
	n, err := f.part.f.ReadAt(b, at)
	if n < len(b) {
		return fmt.Errorf("%w: reading back byte %d: %w", errStorage, at+int64(n), err)
	}
	h.Write(b)
	f.mu.Lock()
	f.hashed += int64(n)
	f.mu.Unlock()
	return nil
}

// compare releases the last byte if the digest is right.
func (f *fill) compare(h hash.Hash) error {
	if got := f.digest.Algorithm().Sum(h); got != f.digest {
		return fmt.Errorf("%w: want %s, got %s", manifest.ErrMismatch, f.digest, got)
	}
	f.c.clear(f.digest)
	f.mapSmall()
	f.mu.Lock()
	f.verified = true
	f.answer()
	f.tell()
	f.mu.Unlock()
	return nil
}
