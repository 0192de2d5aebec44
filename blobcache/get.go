package blobcache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"hostlocal/manifest"
)

// A Want says what a caller knows of a blob that may have to be fetched.
type Want struct {
	Size    int64    // bytes, from a descriptor; -1 if nobody knows
	Offset  int64    // the first byte that the caller is going to read
	Ranged  bool     // the caller came with a range: more of them are likely
	Origin  string   // handed to Resume when a restart finds the fill unfinished
	Sources []Source // asked in this order
}

// Get returns the blob from this disk, or joins the fill that is running, or
// starts one. It returns when the blob is present or the fill has had its first
// answer, so that an outage is an error here, before the caller has sent a header:
// within 10 s. If no source has the blob the error wraps fs.ErrNotExist, and
// fs.ErrPermission if the last that might have refused it. ctx ends only the wait
// of this caller.
func (c *Cache) Get(ctx context.Context, d manifest.Digest, w Want) (*Blob, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, firstAnswer, errLate)
	defer cancel()
	for try := 1; ; try++ {
		b, err := c.Open(d)
		if err == nil {
			return b, nil
		}
		unreadable := err
		b, err = c.joinFill(ctx, d, w)
		switch {
		case err == nil:
			return b, nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("waiting for %s: %w", d, context.Cause(ctx))
		case errors.Is(err, errEnding):
			try = 0
			continue
		case errors.Is(err, errPublished) && try < publishedTries:
			continue
		case errors.Is(err, errPublished):
			b, err = c.passThrough(ctx, d, w, fmt.Errorf("%w: it is there and cannot be opened: %w", errStorage, unreadable))
		case errors.Is(err, errStorage):
			b, err = c.passThrough(ctx, d, w, err)
		}
		if errors.Is(err, errAnothers) && try < anothersTries {
			continue
		}
		return b, err
	}
}

// errAnothers is wrapped by the failure of what another repository's client began
// and this one joined. It says nothing about this one's sources: the other asked for
// a blob that its repository has not got, or may not give.
var errAnothers = errors.New("asked for by another repository's client")

// anothersTries is how often a client may have joined what was another's and
// failed: so often that it takes a crowd to keep one from starting its own, and so
// rarely that the loop ends.
const anothersTries = 8

// publishedTries is how often a fill may say that the blob is there already. Once
// is a race between two looks; more is a file that cannot be read.
const publishedTries = 3

// errLate is the cause when no source answered in time.
var errLate = fmt.Errorf("no source answered in time: %w", os.ErrDeadlineExceeded)

// joinFill returns a reader of d's fill once that has had an answer.
func (c *Cache) joinFill(ctx context.Context, d manifest.Digest, w Want) (*Blob, error) {
	f, late, err := c.fillFor(d, w)
	if errors.Is(err, errEnding) {
		select {
		case <-f.ended:
		case <-ctx.Done():
		}
	}
	if err != nil {
		return nil, err
	}
	b, err := c.follow(ctx, &Blob{c: c, digest: d, want: w, fill: f, late: late})
	if err != nil && f.want.Origin != w.Origin {
		err = fmt.Errorf("%w: %w", errAnothers, err)
	}
	return b, err
}

// follow readies b, which is counted among the readers of its fill, once that has
// had an answer. On an error it is counted no more.
func (c *Cache) follow(ctx context.Context, b *Blob) (*Blob, error) {
	f := b.fill
	select {
	case <-f.answered:
	case <-ctx.Done():
		f.leave()
		return nil, ctx.Err()
	}
	err := f.failure()
	if err == nil {
		b.file, err = os.Open(f.part.path)
		if errors.Is(err, fs.ErrNotExist) {
			if err = f.failure(); err == nil {
				err = errPublished
			}
		} else if err != nil {
			err = fmt.Errorf("%w: %w", errStorage, err)
		}
	}
	if err != nil {
		f.leave()
		return nil, err
	}
	return b, nil
}

// fillFor returns the fill of d, with the caller counted as a reader.
// late says that it had all of the blob already. With errEnding comes one that has
// failed and takes no more readers: the next starts when it has ended.
func (c *Cache) fillFor(d manifest.Digest, w Want) (f *fill, late bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, false, errClosed
	}
	s := c.suspects[d]
	suspected := time.Now().Before(s.until)
	if suspected && w.Offset > 0 {
		return nil, false, ErrSuspect
	}
	if f := c.fills[d]; f != nil {
		late, ok := f.join()
		if !ok {
			return f, false, errEnding
		}
		return f, late, nil
	}
	if !suspected {
		s.source = ""
	}
	f = c.newFill(d, w, s.source)
	f.readers = 1
	c.fills[d] = f
	c.work.Go(f.run)
	return f, false, nil
}

// errEnding says that the fill under way has failed already.
var errEnding = errors.New("the fill is ending")

var errClosed = errors.New("the cache is closed")

// endFill takes f out of the cache.
func (c *Cache) endFill(f *fill) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fills[f.digest] == f {
		delete(c.fills, f.digest)
	}
}

// passThrough serves d without the disk, which failed with why.
func (c *Cache) passThrough(ctx context.Context, d manifest.Digest, w Want, why error) (*Blob, error) {
	b := &Blob{c: c, digest: d, want: w}
	p, err := c.joinPass(ctx, b)
	if err != nil {
		return nil, err
	}
	b.pass = p
	c.stats.passed.Add(1)
	if c.stats.shouldSay() {
		c.log.Warn("blobcache: passing blobs through uncached", "digest", d, "why", why)
	}
	return b, nil
}
