package blobcache

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hostlocal/manifest"
)

// manyBlobs is from how many on the scan gives the memory back that it went through: as
// much again as the index takes, which a quiet daemon would keep for hours. Of fewer it
// is not worth the collection.
const manyBlobs = 10_000

// scan learns what lies in the folder, behind the start: it enters the blobs into
// the index and replaces the high-water mark by the sum. begun is the mark at
// start; what happens meanwhile is counted by those who do it.
func (c *Cache) scan(begun, leftovers int64) {
	since := time.Now()
	fixed := c.dirs.measure(c.blobs)
	_ = c.sweep(c.blobs, func(s swept) (into bool, err error) {
		d, ok := c.blobIn(s.path, s.name)
		if ok {
			defer c.places.lock(d)()
		}
		var st unix.Stat_t
		switch err := s.stat(&st); {
		case err != nil: // it is gone
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			fixed += c.dirs.measure(filepath.Join(s.path, s.name))
			return true, nil
		case ok:
			c.index.found(d, st.Size, st.Blocks*sector)
		default:
			fixed += st.Blocks * sector
		}
		return false, nil
	})
	if c.ctx.Err() != nil {
		return // the mark goes on standing in
	}
	fixed += c.scanOthers(since)
	c.ledger.scanned(begun, leftovers+c.index.sumScanned(), fixed)
	c.stats.scanned.Store(true)
	_, _, n := c.index.sums()
	if n >= manyBlobs {
		debug.FreeOSMemory()
	}
	c.log.Debug("blobcache: scan done", "blobs", n, "took", time.Since(since))
}

// takeLeftovers empties the spool, enters partial files and quarantine among the
// scraps, and uploads among themselves, before anybody can ask for them: they are few.
// It returns their bytes.
func (c *Cache) takeLeftovers() (bytes int64) {
	spooled, _ := os.ReadDir(filepath.Join(c.dir, spoolDir))
	for _, s := range spooled {
		os.Remove(filepath.Join(c.dir, spoolDir, s.Name()))
	}
	for _, sub := range []string{partialDir, quarantineDir} {
		files, _ := os.ReadDir(filepath.Join(c.dir, sub))
		for _, f := range files {
			path := filepath.Join(c.dir, sub, f.Name())
			if fi, err := f.Info(); err == nil && leftover(path) {
				blocks := blocksOf(fi)
				if m, err := os.Stat(path + mapSuffix); err == nil {
					blocks += blocksOf(m)
				}
				c.scraps.add(path, blocks)
				bytes += blocks
			}
		}
	}
	return bytes + c.takeUploads()
}

// leftover reports whether path is a scrap; what is no good at all it removes.
func leftover(path string) bool {
	if filepath.Base(filepath.Dir(path)) == quarantineDir {
		return true
	}
	if _, ok := parsePartialName(filepath.Base(path)); ok {
		if _, _, counts := readMap(path + mapSuffix); counts {
			return true
		}
	} else if base, isMap := strings.CutSuffix(path, mapSuffix); isMap {
		if _, err := os.Lstat(base); err == nil {
			return false // counted with its partial file
		}
	}
	os.Remove(path)
	return false
}

// ownFiles is what the lock, the version, the boot of the uploads, and the mark with
// its next version beside it take at the most.
const ownFiles = 5 * block

// scanOthers returns the bytes of what the folder holds beside blobs: its own
// files and folders, links, and what other programs put there. What changed since
// was counted by whoever changed it.
func (c *Cache) scanOthers(since time.Time) (fixed int64) {
	_ = filepath.WalkDir(c.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		top := filepath.Dir(path) == c.dir
		switch entry.Name() {
		case blobsDir:
			if top {
				return fs.SkipDir // scanned before
			}
		case partialDir, spoolDir, uploadsDir, quarantineDir:
			if top {
				fixed += c.dirs.measure(path)
				return fs.SkipDir
			}
		case lockFile, versionFile, markFile, markFile + tempSuffix:
			if top {
				return nil
			}
		}
		if path == c.dir {
			fixed += c.dirs.measure(path)
		} else if fi, err := entry.Info(); err == nil && fi.ModTime().Before(since) {
			fixed += blocksOf(fi)
		}
		return c.ctx.Err()
	})
	return fixed + ownFiles
}

func parsePartialName(name string) (manifest.Digest, bool) {
	alg, hex, _ := strings.Cut(name, "-")
	d, err := manifest.ParseDigest(alg + ":" + hex)
	return d, err == nil
}
