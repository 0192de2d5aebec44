package main

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// A damage is a file that the test made wrong: as long as it is this one, nobody
// has looked at it yet.
type damage struct {
	inode uint64
	mtime time.Time
}

// damage makes a cached file wrong, behind the daemon's back.
func (x *operation) damage() { x.note = x.node.damageOne(x.r) }

// damageOne replaces, shortens, lengthens or removes one of the cache's files. It
// puts the wrong file in the place of the right one rather than writing into it:
// who is reading the right one meanwhile would be given wrong bytes by anybody.
func (n *node) damageOne(r *rand.Rand) string {
	files := n.files()
	if len(files) == 0 {
		return "no file"
	}
	path := files[r.IntN(len(files))]
	b, err := os.ReadFile(path)
	if err != nil {
		return "gone" // evicted meanwhile
	}
	what := []string{"flipped", "cut", "emptied", "longer", "removed"}[r.IntN(5)]
	switch {
	case what == "removed":
		os.Remove(path)
		return what
	case what == "longer":
		b = append(b, byte(r.Uint32()))
	case what == "emptied" || len(b) == 0:
		b = nil
	case what == "cut":
		b = b[:r.IntN(len(b))]
	default:
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
	}
	temp := filepath.Join(filepath.Dir(n.cfg), "wrong")
	n.mu.Lock()
	defer n.mu.Unlock()
	check(n.w, os.WriteFile(temp, b, 0o444))
	fi, err := os.Stat(temp)
	check(n.w, err)
	if os.Rename(temp, path) != nil {
		return "gone" // with its folder
	}
	n.damaged[path] = damage{fi.Sys().(*syscall.Stat_t).Ino, fi.ModTime()}
	n.strange += fi.Sys().(*syscall.Stat_t).Blocks*512 + 4096
	return what + " " + filepath.Base(path)[:8]
}

// untouched reports whether the file is one that the test made wrong and nobody
// has looked at since.
func (n *node) untouched(path string, fi fs.FileInfo) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	d, ok := n.damaged[path]
	return ok && d.inode == fi.Sys().(*syscall.Stat_t).Ino && d.mtime.Equal(fi.ModTime())
}

// files are those of complete blobs.
func (n *node) files() (paths []string) {
	filepath.WalkDir(filepath.Join(n.dir, "blobs"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			paths = append(paths, path)
		}
		return nil // what goes while we look has gone
	})
	return paths
}
