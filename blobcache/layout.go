package blobcache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hostlocal/manifest"
)

// The folder:
//
//	blobs/<alg>/<hex[:2]>/<hex>   complete, verified, read-only
//	partial/<alg>-<hex>           what a fill has so far, and beside it
//	partial/<alg>-<hex>.map       which of its bytes those are
//	spool/                        bytes at hand that are being hashed (Put)
//	uploads/<name>                bytes that somebody sends piece by piece (Upload), and beside them
//	uploads/boot                  the boot that wrote them, and within which they count
//	quarantine/                   files that did not match their name
//	repositories/                 distribution's links (Names)
//	highwater                     no less than what the folder takes
//	lock, version
const (
	blobsDir      = "blobs"
	partialDir    = "partial"
	spoolDir      = "spool"
	uploadsDir    = "uploads"
	quarantineDir = "quarantine"
	lockFile      = "lock"
	versionFile   = "version"
	tempSuffix    = ".tmp"
	layoutVersion = "1\n"
)

// ErrLocked is wrapped by Open's error when another process has the folder.
var ErrLocked = errors.New("another registryd uses this cache folder")

// blobPath is where d lies when it is complete.
func (c *Cache) blobPath(d manifest.Digest) string {
	s := d.String()
	alg := len(d.Algorithm())
	var b strings.Builder
	b.Grow(len(c.blobs) + len(s) + 5)
	b.WriteString(c.blobs)
	b.WriteByte('/')
	b.WriteString(s[:alg])
	b.WriteByte('/')
	b.WriteString(s[alg+1 : alg+3])
	b.WriteByte('/')
	b.WriteString(s[alg+1:])
	return b.String()
}

// partialName is the file name of d's unfinished fill.
func partialName(d manifest.Digest) string { return string(d.Algorithm()) + "-" + d.Hex() }

// makeFolders creates what is missing under the root.
func makeFolders(dir string) error {
	for _, sub := range []string{blobsDir, partialDir, spoolDir, uploadsDir, quarantineDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// lockFolder takes the folder for this process and checks its layout version. The
// lock ends when the file is closed, so also when the process is killed.
func lockFolder(dir string) (*os.File, error) {
	// Not for writing: a disk on which nobody writes may become read-only.
	f, err := lock(filepath.Join(dir, lockFile), os.O_RDONLY)
	if errors.Is(err, unix.EBADF) {
		f, err = lock(filepath.Join(dir, lockFile), os.O_RDWR) // on NFS, flock(2) says
	}
	if err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s (stop it, or set cache.dir to another folder)", ErrLocked, dir)
		}
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	if err := checkVersion(filepath.Join(dir, versionFile)); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func lock(path string, mode int) (*os.File, error) {
	f, err := os.OpenFile(path, mode|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// unlockFolder gives the folder to the next. A close alone would do so only when the last
// child that this process has just forked, with all that is open, has come to its exec.
func unlockFolder(f *os.File) error {
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
}

func checkVersion(path string) error {
	switch b, err := os.ReadFile(path); {
	case errors.Is(err, os.ErrNotExist) || err == nil && len(b) == 0:
		return writeFile(path, []byte(layoutVersion))
	case err != nil:
		return err
	case string(b) != layoutVersion:
		return fmt.Errorf("%s says layout %q, and this registryd knows only %q: empty the folder or set cache.dir to another one",
			path, strings.TrimSpace(string(b)), strings.TrimSpace(layoutVersion))
	}
	return nil
}

// writeFile replaces path by b, durably: a power loss leaves the old content or
// the new one.
func writeFile(path string, b []byte) error {
	tmp := path + tempSuffix
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// blocksOf is what an open file takes on the disk, in bytes.
func blocksOf(fi os.FileInfo) int64 {
	if st, ok := fi.Sys().(*unixStat); ok {
		return st.Blocks * 512
	}
	return roundUp(fi.Size())
}
