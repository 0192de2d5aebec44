package blobcache

import (
	"os"
	"sync"

	"hostlocal/manifest"
)

// places are the locks under which a file gets a digest's name or loses it, or is
// entered in the index: so that folder and index agree. Each is held over one
// rename or unlink. A hit that the index knows takes none of them. They are taken
// after the ledger's evicting and before every other lock.
type places [64]sync.Mutex

// lock locks the place of d, and returns what unlocks it.
func (p *places) lock(d manifest.Digest) (unlock func()) {
	hex := d.Hex()
	mu := &p[(int(hex[0])*16+int(hex[1]))%len(p)]
	mu.Lock()
	return mu.Unlock
}

// stillThere reports whether f is the file at path, and not one that was evicted
// or replaced since it was opened.
func stillThere(f *os.File, path string) bool {
	here, err := os.Lstat(path)
	if err != nil {
		return false
	}
	opened, err := f.Stat()
	return err == nil && os.SameFile(here, opened)
}
