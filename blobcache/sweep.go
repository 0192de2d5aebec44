package blobcache

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hostlocal/manifest"
)

// sweepBatch is how many names of a folder are read at a time: a folder of any
// number of files takes this much memory to go through, some 16 KiB.
const sweepBatch = 256

// A swept is one name that a sweep has come to.
type swept struct {
	in   *os.File // the folder, open
	path string   // of the folder
	name string
}

// stat is lstat of what has the name now, without the walk through the path.
func (s swept) stat(st *unix.Stat_t) error {
	return unix.Fstatat(int(s.in.Fd()), s.name, st, unix.AT_SYMLINK_NOFOLLOW)
}

// sweep visits what lies in dir and in the folders below it for which visit reports
// true. What cannot be read is passed over. It ends with the cache, whose error it
// returns, or with visit's.
func (c *Cache) sweep(dir string, visit func(s swept) (into bool, err error)) error {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	for {
		names, end := f.Readdirnames(sweepBatch)
		for _, name := range names {
			if c.ctx.Err() != nil {
				return c.ctx.Err()
			}
			into, err := visit(swept{f, dir, name})
			if err == nil && into {
				err = c.sweep(filepath.Join(dir, name), visit)
			}
			if err != nil {
				return err
			}
		}
		if end != nil {
			return nil
		}
	}
}

// blobIn returns which blob a file of that name is in that folder.
func (c *Cache) blobIn(dir, name string) (manifest.Digest, bool) {
	shard, alg := filepath.Base(dir), filepath.Base(filepath.Dir(dir))
	d, err := manifest.ParseDigest(alg + ":" + name)
	return d, err == nil && name[:2] == shard && len(dir) == len(c.blobs)+len("/")+len(alg)+len("/xx")
}
