package blobcache

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Reopen returns another file of the upload, for reading only, that outlives it: bytes
// that are there never change, and are the same when it has become a blob. Until it is
// closed a file that is removed keeps its blocks, which nobody counts: close it soon then.
func (u *Upload) Reopen() (*os.File, error) {
	f, err := os.OpenFile(u.path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, uploadTrouble(fmt.Errorf("opening upload %s again: %w", u.name, err))
	}
	mine, err := u.f.Stat()
	if err == nil {
		var fi os.FileInfo
		if fi, err = f.Stat(); err == nil && !os.SameFile(mine, fi) {
			err = fmt.Errorf("another file lies there: %w", fs.ErrNotExist)
		}
	}
	if err != nil {
		f.Close()
		return nil, uploadTrouble(fmt.Errorf("opening upload %s again: %w", u.name, err))
	}
	return f, nil
}

// SyscallConn implements syscall.Conn: what can be read of the upload can be read in its
// file, at the same offset. The descriptor is gone when the upload has ended.
func (u *Upload) SyscallConn() (syscall.RawConn, error) { return u.f.SyscallConn() }
