package blobcache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
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
// true, until visit returns an error, or the cache ends: that is its error then. A folder
// that cannot be read is passed over, and said in the end.
func (c *Cache) sweep(dir string, visit func(s swept) (into bool, err error)) error {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errUnread, err)
	}
	defer f.Close()
	var unread error
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
			if errors.Is(err, errUnread) {
				unread, err = err, nil
			}
			if err != nil {
				return err
			}
		}
		switch {
		case errors.Is(end, io.EOF):
			return unread
		case end != nil:
			return fmt.Errorf("%w: %w", errUnread, end)
		}
	}
}

// errUnread is wrapped by the error of a sweep that could not read all folders.
var errUnread = errors.New("reading a folder of the cache")

// errEnough ends a sweep early.
var errEnough = errors.New("enough")

// stored calls yield with each blob that lies on the disk, right or not, until it
// returns false. Its error is sweep's.
func (c *Cache) stored(yield func(manifest.Digest) bool) error {
	err := c.sweep(c.blobs, func(s swept) (into bool, err error) {
		if d, ok := c.blobIn(s.path, s.name); ok {
			if !yield(d) {
				return false, errEnough
			}
			return false, nil
		}
		var st unix.Stat_t
		return s.stat(&st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// blobIn returns which blob a file of that name is in that folder.
func (c *Cache) blobIn(dir, name string) (manifest.Digest, bool) {
	shard, alg := filepath.Base(dir), filepath.Base(filepath.Dir(dir))
	d, err := manifest.ParseDigest(alg + ":" + name)
	return d, err == nil && name[:2] == shard && len(dir) == len(c.blobs)+len("/")+len(alg)+len("/xx")
}
