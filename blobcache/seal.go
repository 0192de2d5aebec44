package blobcache

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hostlocal/manifest"
)

type unixStat = syscall.Stat_t

// sealMode is the mode of a published file. Together with an mtime on a whole
// second it is the seal.
const sealMode = 0o444

// sealed reports whether nobody has touched the file since it was published.
// Publishing sets the mtime to a whole second and the mode to read-only. A write,
// a truncation or a file put there by hand leaves the time of the touch, which
// falls on a whole second once in 10⁹ (once in 250 at the coarsest kernel tick of
// 4 ms, and then the mode still has to agree). So one fstat, which a hit needs
// anyway, finds every damage but silent rot: that is the scrub's.
func sealed(fi os.FileInfo) bool {
	return fi.ModTime().Nanosecond() == 0 && fi.Mode() == sealMode
}

// seal marks f as verified, and syncs it.
func seal(f *os.File) error {
	if err := f.Chmod(sealMode); err != nil {
		return err
	}
	now := time.Now().Truncate(time.Second)
	tv := syscall.NsecToTimeval(now.UnixNano())
	if err := syscall.Futimes(int(f.Fd()), []syscall.Timeval{tv, tv}); err != nil {
		return err
	}
	return f.Sync()
}

// openSealed opens the file at path as blob d. A file without the seal is
// hashed first, and then sealed or put in quarantine; in the latter case, as for
// a file that is not there, the error wraps fs.ErrNotExist.
func (c *Cache) openSealed(d manifest.Digest, path string) (*os.File, os.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ELOOP) {
		c.quarantine(d, path, "it is a link")
		err = fmt.Errorf("%s is no plain file: %w", path, os.ErrNotExist)
	}
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err == nil && sealed(fi) {
		return f, fi, nil
	}
	if err == nil && !fi.Mode().IsRegular() {
		c.quarantine(d, path, "it is no plain file")
		err = fmt.Errorf("%s is no plain file: %w", path, os.ErrNotExist)
	}
	if err == nil {
		err = c.checkUnsealed(d, f, path)
	}
	if err == nil {
		fi, err = f.Stat()
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, fi, nil
}

// checkUnsealed hashes a file that somebody touched. One caller at a time hashes
// one file, and the others find it sealed.
func (c *Cache) checkUnsealed(d manifest.Digest, f *os.File, path string) error {
	_, err, _ := c.checks.Do(d.String(), func() (any, error) {
		err := hashFile(d, f)
		switch {
		case err == nil:
			c.log.Debug("blobcache: a file without seal is right; sealing it", "digest", d)
			if err := seal(f); err != nil {
				return nil, fmt.Errorf("sealing %s: %w", path, err)
			}
			return nil, nil
		case errors.Is(err, manifest.ErrMismatch):
			c.quarantine(d, path, "the file was changed by somebody")
			return nil, fmt.Errorf("%s is damaged: %w", path, os.ErrNotExist)
		}
		return nil, err
	})
	if err == nil {
		if fi, serr := f.Stat(); serr == nil && sealed(fi) {
			return nil
		}
		// f is not the file that was checked: it was replaced in between.
		return fmt.Errorf("%s was replaced while it was opened: %w", path, os.ErrNotExist)
	}
	return err
}

// hashFile reads all of f and returns an error that wraps manifest.ErrMismatch if
// it is not d.
func hashFile(d manifest.Digest, f *os.File) error {
	h := d.Algorithm().New()
	buf := getBuffer()
	defer putBuffer(buf)
	if _, err := io.CopyBuffer(h, io.NewSectionReader(f, 0, 1<<62), *buf); err != nil {
		return fmt.Errorf("hashing %s: %w", d, err)
	}
	if got := d.Algorithm().Sum(h); got != d {
		return fmt.Errorf("%w: want %s, got %s", manifest.ErrMismatch, d, got)
	}
	return nil
}

// quarantine takes a wrong file out of the way. It is kept, so that a person can
// see what happened to it, until its room is needed.
func (c *Cache) quarantine(d manifest.Digest, path, why string) {
	c.log.Warn("blobcache: damaged file", "digest", d, "why", why)
	c.stats.damaged.Add(1)
	c.memory.remove(d)
	to := filepath.Join(c.dir, quarantineDir, fmt.Sprintf("%s.%d", partialName(d), time.Now().UnixNano()))
	freed := c.index.forget(d)
	if err := os.Rename(path, to); err != nil {
		os.Remove(path)
		c.ledger.add(-freed)
		return
	}
	blocks := freed
	if fi, err := os.Stat(to); err == nil {
		blocks = blocksOf(fi)
	}
	c.ledger.add(blocks - freed)
	c.scraps.add(to, blocks)
}
