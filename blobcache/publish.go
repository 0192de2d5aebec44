package blobcache

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"hostlocal/manifest"
)

// publish makes the verified file at temp the blob d: sealed and synced, renamed
// to its place, the folder synced. It is the only way in. taken is what the
// ledger has for the file; from here on its true blocks count, and it may be
// evicted when the caller has released the entry. On an error the file is where it
// was, and still the caller's.
func (c *Cache) publish(d manifest.Digest, f *os.File, temp string, taken int64) (*entry, error) {
	if err := seal(f); err != nil {
		return nil, fmt.Errorf("publishing %s: %w", d, err)
	}
	dir := filepath.Dir(c.blobPath(d))
	e, err := c.place(d, f, temp, taken)
	if errors.Is(err, os.ErrNotExist) {
		if err = c.makeShard(dir); err == nil {
			e, err = c.place(d, f, temp, taken)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("publishing %s: %w", d, err)
	}
	if err := syncDir(dir); err != nil {
		// In its place, right, but perhaps not durable: as good as the disk lets it be.
		c.log.Warn("blobcache: syncing a published file", "digest", d, "err", err)
	}
	c.dirs.grown(dir)
	return e, nil
}

// place renames temp to the place of d and enters it in the index and the ledger.
func (c *Cache) place(d manifest.Digest, f *os.File, temp string, taken int64) (*entry, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	defer c.places.lock(d)()
	if err := os.Rename(temp, c.blobPath(d)); err != nil {
		return nil, err
	}
	e, counted := c.index.put(d, fi.Size(), blocksOf(fi), time.Now())
	c.ledger.settle(taken, blocksOf(fi)-counted)
	return e, nil
}

// makeShard creates the folder of a blob, which takes room too, and makes its name
// durable.
func (c *Cache) makeShard(dir string) error {
	const room = 2 * block // the shard's, and the algorithm's
	if err := c.ledger.take(room, 0); err != nil {
		return err
	}
	defer c.ledger.settle(room, 0)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	c.dirs.grown(filepath.Dir(dir))
	c.dirs.grown(dir)
	for parent := filepath.Dir(dir); len(parent) >= len(c.dir); parent = filepath.Dir(parent) {
		if err := syncDir(parent); err != nil {
			return err
		}
	}
	return nil
}

// Put publishes the bytes of r, which must have digest d and, unless size is
// negative, size bytes, and returns when they are durable. It is for bytes that are
// at hand: manifests, pushes. An error that wraps ErrNoRoom, or one of the disk's,
// loses nothing but the copy here; one that wraps manifest.ErrMismatch says that r
// is not d.
func (c *Cache) Put(d manifest.Digest, r io.Reader, size int64) error {
	if c.Has(d) {
		return nil
	}
	_, err, _ := c.puts.Do(d.String(), func() (any, error) { return nil, c.put(d, r, size) })
	return err
}

func (c *Cache) put(d manifest.Digest, r io.Reader, size int64) error {
	s, err := c.newSpool(d)
	if err != nil {
		return err
	}
	defer s.abort()
	if _, err := io.Copy(s, r); err != nil {
		return fmt.Errorf("spooling %s: %w", d, err)
	}
	if size >= 0 && s.size != size {
		return fmt.Errorf("%w: %s should have %d bytes, and has %d", manifest.ErrMismatch, d, size, s.size)
	}
	return s.commit()
}

// spool is a file that is being written and hashed: commit or abort ends it.
type spool struct {
	c     *Cache
	d     manifest.Digest
	f     *os.File
	h     hash.Hash
	size  int64
	taken int64
}

func (c *Cache) newSpool(d manifest.Digest) (*spool, error) {
	f, err := os.CreateTemp(filepath.Join(c.dir, spoolDir), "put-*")
	if errors.Is(err, os.ErrNotExist) {
		if err = makeFolders(c.dir); err == nil {
			f, err = os.CreateTemp(filepath.Join(c.dir, spoolDir), "put-*")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("spooling %s: %w", d, err)
	}
	return &spool{c: c, d: d, f: f, h: d.Algorithm().New()}, nil
}

// Write reserves before it writes.
func (s *spool) Write(p []byte) (int, error) {
	if s.c.ctx.Err() != nil {
		return 0, errClosed
	}
	if need := roundUp(s.size + int64(len(p))); need > s.taken {
		if err := s.c.ledger.take(need-s.taken, 0); err != nil {
			return 0, err
		}
		s.taken = need
	}
	s.h.Write(p)
	n, err := s.f.Write(p)
	s.size += int64(n)
	return n, err
}

func (s *spool) commit() error {
	if got := s.d.Algorithm().Sum(s.h); got != s.d {
		return fmt.Errorf("%w: want %s, got %s", manifest.ErrMismatch, s.d, got)
	}
	if !s.c.enter() {
		return errClosed
	}
	defer s.c.work.Done()
	e, err := s.c.publish(s.d, s.f, s.f.Name(), s.taken)
	if err != nil {
		return err
	}
	s.taken = 0
	s.c.release(e)
	return nil
}

// abort ends the spool. Behind a commit the name is gone and nothing is taken any
// more, so that only the descriptor is left to close.
func (s *spool) abort() {
	os.Remove(s.f.Name())
	s.c.ledger.settle(s.taken, 0)
	s.f.Close()
}
