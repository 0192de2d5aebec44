package blobcache

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// bootFile, in the folder of the uploads, names the boot that wrote them. After a
// power loss a file may have its length and not its bytes, so those of another boot
// go. (Names of uploads are longer.)
const bootFile = "boot"

// takeUploads enters what an earlier process of this boot left, before anybody can ask
// for it, and removes everything else. It returns the bytes that are left.
func (c *Cache) takeUploads() (bytes int64) {
	dir := filepath.Join(c.dir, uploadsDir)
	counts := boots(dir)
	files, _ := os.ReadDir(dir)
	clean := true
	for _, f := range files {
		if f.Name() == bootFile {
			continue
		}
		fi, err := f.Info()
		if counts && err == nil && fi.Mode().IsRegular() && uploadName.MatchString(f.Name()) && len(c.uploads.all) < maxUploads {
			r := resting{blocks: blocksOf(fi), size: fi.Size(), grew: fi.ModTime()}
			c.uploads.rest(f.Name(), r)
			bytes += r.blocks
			continue
		}
		if os.RemoveAll(filepath.Join(dir, f.Name())) != nil {
			clean = false // and so not of this boot when the next process looks
		}
	}
	if !counts && clean {
		writeBoot(dir)
	}
	c.ledger.settle(-bytes, -bytes) // of the mark, which stands in for them, this does not go
	return bytes
}

// boots reports whether what lies in dir was written in this boot.
func boots(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, bootFile))
	return err == nil && bootID() != "" && string(b) == bootID()
}

// writeBoot says that what lies in dir from here on is this boot's. It need not be
// durable: a power loss begins another. If it cannot be written the next process
// drops what this one leaves.
func writeBoot(dir string) { _ = os.WriteFile(filepath.Join(dir, bootFile), []byte(bootID()), 0o600) }

// makeUploads makes the folder anew, which somebody removed.
func (c *Cache) makeUploads() error {
	err := makeFolders(c.dir)
	if err == nil {
		writeBoot(filepath.Join(c.dir, uploadsDir))
	}
	return err
}

// ExpireUploads removes the uploads that nobody has open and that have not grown
// within idle before now, and returns how many those were. It is to be called from
// time to time.
func (c *Cache) ExpireUploads(idle time.Duration, now time.Time) (removed int) {
	if !c.enter() {
		return 0
	}
	defer c.work.Done()
	for _, name := range c.uploads.idle() {
		// Looked at before it is claimed: who comes for one that stays finds it free.
		fi, err := os.Lstat(c.uploadPath(name))
		if err == nil && now.Sub(fi.ModTime()) <= idle {
			continue
		}
		e, err := c.uploads.claim(name)
		if err != nil {
			continue // somebody came for it
		}
		if c.removeUpload(name, e) {
			c.ledger.settle(e.blocks, 0)
			removed++
		}
	}
	return removed
}

// idle returns the names of the uploads that nobody is at.
func (s *uploads) idle() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, e := range s.all {
		if !e.busy {
			names = append(names, name)
		}
	}
	return names
}

// evictUpload removes the upload that was left longest ago, if that is long enough.
// The ledger calls it by way of evictOne.
func (c *Cache) evictUpload() (freed int64, ok bool) {
	name, e := c.uploads.claimOldest(false, time.Now())
	if e == nil || !c.removeUpload(name, e) {
		return 0, false
	}
	c.ledger.settle(e.blocks, e.blocks) // the ledger is about to count it as evicted
	return e.blocks, true
}

// shareUploads has n more bytes of an upload that has taken some be within the share of
// all, for which those that were left go. There may be a thousand of them: they are
// counted once a step, for all of it. Several at once may pass the share by a step each.
func (c *Cache) shareUploads(taken, n int64) error {
	share := uploadShare(c.ledger.most())
	step := max(block, min(1<<20, share/64))
	begun := (taken + n) / step * step
	if taken > 0 && taken >= begun {
		return nil
	}
	for {
		_, bytes := c.uploads.sums()
		if bytes-taken+begun+step <= share {
			return nil
		}
		name, e := c.uploads.claimOldest(false, time.Now())
		if e == nil || !c.removeUpload(name, e) {
			return fmt.Errorf("%w: uploads have %d of the %d bytes that they may take", ErrNoRoom, bytes, share)
		}
		c.ledger.settle(e.blocks, 0)
	}
}

// removeUpload removes the file of an upload that the caller has claimed: what the
// ledger has for it is the caller's then. One that cannot be removed stays.
func (c *Cache) removeUpload(name string, e *uploadEntry) bool {
	if os.RemoveAll(c.uploadPath(name)) != nil {
		c.uploads.rest(name, e.resting)
		return false
	}
	c.uploads.forget(name)
	return true
}

// evictable is how many bytes evictUpload could free.
func (s *uploads) evictable(now time.Time) (bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.all {
		if e.left(now) {
			bytes += e.blocks
		}
	}
	return bytes
}

// sums returns how many uploads there are, and the bytes that they take.
func (s *uploads) sums() (n int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.all {
		if e.open == nil {
			bytes += e.blocks
			continue
		}
		e.open.mu.Lock()
		bytes += e.open.taken
		e.open.mu.Unlock()
	}
	return len(s.all), bytes
}

// close closes the uploads that are open, at the end of the cache: they stay for the
// next one.
func (s *uploads) close() {
	s.mu.Lock()
	var open []*Upload
	for _, e := range s.all {
		if e.open != nil {
			open = append(open, e.open)
		}
	}
	s.mu.Unlock()
	for _, u := range open {
		_ = u.close(uploadTrouble(errClosed))
	}
}
