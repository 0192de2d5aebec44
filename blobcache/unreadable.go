package blobcache

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"hostlocal/manifest"
)

// unreadableFor is how long a file that the disk neither reads nor gives up is left
// alone, and its blob passes through: then it is tried again.
const unreadableFor = time.Minute

// unreadables are files that could not be read, and not be removed either.
type unreadables struct {
	some  atomic.Bool // there may be any: most hosts never have one
	mu    sync.Mutex  // guards until
	until map[manifest.Digest]time.Time
}

func (u *unreadables) add(d manifest.Digest) {
	now := time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	for d, until := range u.until {
		if now.After(until) {
			delete(u.until, d)
		}
	}
	if u.until == nil {
		u.until = make(map[manifest.Digest]time.Time)
	}
	u.until[d] = now.Add(unreadableFor)
	u.some.Store(true)
}

// check returns an error, which is not that the file is not there, if d's could not be
// read moments ago.
func (u *unreadables) check(d manifest.Digest) error {
	if !u.some.Load() {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if until, ok := u.until[d]; ok && time.Now().Before(until) {
		return fmt.Errorf("%s could not be read moments ago: %w", d, syscall.EIO)
	}
	return nil
}

// Unreadable takes the file of b out of the way, for reading it failed with err: the
// next to ask has the blob from elsewhere. A disk that fails altogether does not let go
// of the file either; then the blob passes through for a minute.
func (b *Blob) Unreadable(err error) {
	if b.File() == nil {
		return
	}
	path := b.c.blobPath(b.digest)
	b.c.quarantine(b.digest, b.file, path, "it cannot be read: "+err.Error())
	if stillThere(b.file, path) {
		b.c.unreadable.add(b.digest)
	}
}

// isUnreadable reports whether err, of a copy from a file to wherever, is the disk's:
// no socket says EIO.
func isUnreadable(err error) bool { return errors.Is(err, syscall.EIO) }
