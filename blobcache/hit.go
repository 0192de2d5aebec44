package blobcache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"hostlocal/manifest"
)

// Open returns a blob that is complete on this disk, or an error that wraps
// fs.ErrNotExist. It makes no network call.
func (c *Cache) Open(d manifest.Digest) (*Blob, error) {
	now := time.Now()
	if mem := c.memory.get(d); mem != nil {
		c.release(c.index.hold(d, now))
		return &Blob{c: c, digest: d, size: int64(len(mem)), mem: mem}, nil
	}
	if err := c.unreadable.check(d); err != nil {
		return nil, err
	}
	e := c.index.hold(d, now) // before the file is opened: it cannot be evicted now
	f, fi, err := c.openSealed(d, c.blobPath(d))
	if err != nil {
		c.release(e)
		if errors.Is(err, fs.ErrNotExist) && c.index.knows(d) {
			c.lost(d)
		}
		return nil, err
	}
	if e == nil {
		if e = c.adopt(d, f, fi); e == nil {
			f.Close()
			return nil, fmt.Errorf("%s was evicted while it was opened: %w", d, fs.ErrNotExist)
		}
	}
	b := &Blob{c: c, digest: d, size: fi.Size(), mod: fi.ModTime(), file: f, entry: e}
	if b.size <= memoryBlob {
		return b.intoMemory()
	}
	return b, nil
}

// intoMemory keeps a small blob's bytes, hashed once more because nobody will look
// at the file again for a while.
func (b *Blob) intoMemory() (*Blob, error) {
	mem := make([]byte, b.size)
	defer b.Close()
	if _, err := io.ReadFull(b.file, mem); err == nil && b.digest.Verify(mem) == nil {
		b.c.memory.add(b.digest, mem)
		if b.c.index.isGone(b.entry) {
			b.c.memory.remove(b.digest) // Remove had no chance to
		}
		return &Blob{c: b.c, digest: b.digest, size: b.size, mem: mem}, nil
	}
	path := b.c.blobPath(b.digest)
	b.c.quarantine(b.digest, b.file, path, "the file rotted")
	return nil, fmt.Errorf("%s is damaged: %w", path, fs.ErrNotExist)
}

// adopt enters the open file f, which the scan has not met yet or somebody put there
// by hand, in the index, and holds it. It returns nil if the file lost its name
// meanwhile.
func (c *Cache) adopt(d manifest.Digest, f *os.File, fi os.FileInfo) *entry {
	defer c.places.lock(d)()
	if !stillThere(f, c.blobPath(d)) {
		return nil
	}
	c.ledger.add(c.index.adopt(d, fi.Size(), blocksOf(fi), fi.ModTime()))
	return c.index.hold(d, time.Now())
}

// lost notes that a file of the index's is not there any more.
func (c *Cache) lost(d manifest.Digest) {
	defer c.places.lock(d)()
	if _, err := os.Lstat(c.blobPath(d)); err == nil {
		return // it is back
	}
	if freed := c.index.forget(d); freed > 0 {
		c.log.Warn("blobcache: a file is gone that nobody here removed", "digest", d)
		c.stats.damaged.Add(1)
		c.ledger.add(-freed)
	}
}

// Has reports whether d is complete on this disk. A file without the seal counts
// as one only after it was hashed.
func (c *Cache) Has(d manifest.Digest) bool {
	if c.memory.get(d) != nil {
		return true
	}
	path := c.blobPath(d)
	fi, err := os.Lstat(path)
	if err != nil {
		return false
	}
	if sealed(fi) {
		return true
	}
	f, _, err := c.openSealed(d, path)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// release ends a hold of the index's; nil is none.
func (c *Cache) release(e *entry) {
	if e == nil {
		return
	}
	if freed := c.index.release(e); freed > 0 {
		c.ledger.add(-freed)
	}
}

// Remove takes d off the disk. A reader that has it open reads on. Removing what
// is not there is no error.
func (c *Cache) Remove(d manifest.Digest) error {
	defer c.places.lock(d)()
	if err := os.Remove(c.blobPath(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c.ledger.add(-c.index.forget(d))
	c.memory.remove(d) // last: see intoMemory
	return nil
}
