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
	if fi, err := f.Stat(); err != nil || fi.Mode() != sealMode {
		if err := f.Chmod(sealMode); err != nil {
			return err
		}
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
		c.quarantine(d, nil, path, "it is a link")
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
		c.quarantine(d, f, path, "it is no plain file")
		err = fmt.Errorf("%s is no plain file: %w", path, os.ErrNotExist)
	}
	if err == nil {
		fi, err = c.checkUnsealed(d, f, path)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, fi, nil
}

// checkUnsealed hashes a file that somebody touched, and returns what it is like
// when it is right and sealed. One caller at a time hashes one file, and the others
// find it sealed.
func (c *Cache) checkUnsealed(d manifest.Digest, f *os.File, path string) (os.FileInfo, error) {
	_, err, _ := c.checks.Do(d.String(), func() (any, error) { return nil, c.reseal(d, f, path) })
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err == nil && sealed(fi) {
		return fi, nil
	}
	// f is not the file that was checked, or somebody is at it right now.
	return nil, fmt.Errorf("%s was changed while it was opened: %w", path, os.ErrNotExist)
}

// reseal hashes f and seals it if it is right, else puts it in quarantine. What is
// done to it behind the hash must not get the seal: so it is looked at before and
// after.
func (c *Cache) reseal(d manifest.Digest, f *os.File, path string) error {
	before, err := f.Stat()
	if err != nil {
		return err
	}
	err = hashFile(d, f)
	if errors.Is(err, manifest.ErrMismatch) {
		c.quarantine(d, f, path, "the file was changed by somebody")
		return fmt.Errorf("%s is damaged: %w", path, os.ErrNotExist)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Chmod(sealMode)); err != nil { // a seal on the disk says that the bytes are there
		return fmt.Errorf("sealing %s: %w", path, err)
	}
	after, err := f.Stat() // right before the time of the seal hides every change
	if err != nil {
		return err
	}
	if after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return fmt.Errorf("%s was changed while it was hashed: %w", path, os.ErrNotExist)
	}
	if err := seal(f); err != nil {
		return fmt.Errorf("sealing %s: %w", path, err)
	}
	if after, err = f.Stat(); err != nil || after.Size() != before.Size() {
		c.quarantine(d, f, path, "the file was changed by somebody")
		return fmt.Errorf("%s is damaged: %w", path, os.ErrNotExist)
	}
	c.log.Debug("blobcache: a file without seal is right; sealed it", "digest", d)
	return nil
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
// see what happened to it, until its room is needed. f is the file that was found
// wrong, if it was opened: another one may have its name by now.
func (c *Cache) quarantine(d manifest.Digest, f *os.File, path, why string) {
	defer c.places.lock(d)()
	if f != nil && !stillThere(f, path) {
		return
	}
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
	if fi, err := os.Lstat(to); err == nil {
		blocks = blocksOf(fi)
	}
	c.ledger.add(blocks - freed)
	c.scraps.add(to, blocks)
}
