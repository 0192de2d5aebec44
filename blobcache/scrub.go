package blobcache

import (
	"errors"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"hostlocal/manifest"
)

// scrubPause is how long the scrub rests between two looks at everything. Disks
// that rot do so over months.
const scrubPause = 24 * time.Hour

// scrub reads files again, at a bounded rate, in search of rot that leaves the
// seal intact. It runs as long as the cache.
func (c *Cache) scrub() {
	if c.opt.ScrubRate < 0 {
		return
	}
	for c.ctx.Err() == nil {
		_ = c.stored(func(d manifest.Digest) bool { return c.scrubOne(d) == nil })
		if c.pause(scrubPause) != nil {
			return
		}
	}
}

// scrubOne hashes one blob. The error is the cache's end.
func (c *Cache) scrubOne(d manifest.Digest) error {
	path := c.blobPath(d)
	f, _, err := c.openSealed(d, path)
	if err != nil {
		return nil // gone, or found out just now
	}
	defer f.Close()
	h := d.Algorithm().New()
	buf := getBuffer()
	defer putBuffer(buf)
	for off := int64(0); ; {
		n, err := f.ReadAt(*buf, off)
		h.Write((*buf)[:n])
		off += int64(n)
		c.stats.scrubbed.Add(int64(n))
		// Of a small file the disk reads a block all the same: there are many of them.
		if err := c.pause(time.Duration(max(n, block)) * time.Second / time.Duration(c.opt.ScrubRate)); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			c.quarantine(d, f, path, "it cannot be read: "+err.Error())
			return nil
		}
		if !stillThere(f, path) {
			return nil // evicted: what it took is free only when it is closed
		}
	}
	// What was read for the scrub alone should not push out what clients read.
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	if d.Algorithm().Sum(h) != d {
		c.quarantine(d, f, path, "the file rotted")
	}
	return nil
}

// pause waits for d, or returns the error of the cache's end.
func (c *Cache) pause(d time.Duration) error {
	if d <= 0 {
		return c.ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

const (
	// trimEvery is how often links are looked over, and nameShare the part of the
	// budget (one in nameShare) that they may take: a link takes a block for each
	// digest that an upstream ever confirmed, and nothing else bounds them.
	trimEvery = time.Hour
	nameShare = 16
)

// trimNames keeps the links within their share. It runs as long as the cache.
func (c *Cache) trimNames() {
	for c.pause(trimEvery) == nil {
		if left, err := c.names.Trim(c.opt.Budget / nameShare); err != nil {
			c.log.Warn("blobcache: trimming the links", "left", left, "err", err)
		}
	}
}
