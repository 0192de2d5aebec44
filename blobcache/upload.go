package blobcache

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"hostlocal/manifest"
)

// ErrDisk is wrapped by every error of an Upload that is this host's and not the
// sender's: the disk failed, or had no room (then ErrNoRoom is wrapped too), or the
// cache is closed. The sender may try again.
var ErrDisk = errors.New("this host's disk did not take the upload")

// errUploadOver says that an upload was written to after its end.
var errUploadOver = errors.New("the upload has ended")

// An Upload is a blob that somebody sends piece by piece, on its way to become
// present.
//
//	NewUpload ───> ReadFrom ... ──> Digest ──> Commit   its file becomes the blob
//	                ^        │          └────> Abort    its file goes
//	   OpenUpload ──┘        └──> Close, Close of the Cache, kill -9: uploads/<name> stays
//
// The file's length is how far it got. Nothing syncs it before Commit does, so it
// counts only within the boot in which it was written. What it takes is reserved
// before it is written, and is not evicted while somebody has it open.
//
// It is for one goroutine, but Size, ReadAtContext, Finish and Fail may be called
// from others. Whoever has one ends it with Commit, Abort or Close.
type Upload struct {
	c    *Cache
	name string
	path string
	f    *os.File

	sum    hash.Hash       // sha256 of the first hashed bytes
	hashed int64           // less than size only where an earlier process wrote the rest
	other  manifest.Digest // of all bytes, by an algorithm that was asked for; zero if there is none

	flushed flusher

	mu      sync.Mutex    // guards all below; no I/O and no other lock under it
	size    int64         // bytes written: followers may read these
	taken   int64         // bytes of the ledger's that it holds
	waiting int           // followers that wait
	changed chan struct{} // closed and replaced when they should look again
	over    error         // why no more bytes come: io.EOF if it is whole; nil while more may
	ended   bool          // it is nobody's any more
}

const (
	// wideUploads is how many uploads are read in pieces of bufferSize at once: 16 MiB
	// of memory, for each has two. They are held while the sender is waited for, so a
	// thousand slow senders would hold half a GiB; those beyond have narrow pieces,
	// which cost a fast one some per cent.
	wideUploads = 32
	narrow      = 32 << 10
)

// Size returns how many bytes there are so far.
func (u *Upload) Size() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.size
}

// ReadFrom appends what r has, until io.EOF. If r fails, what came before is kept
// and r's error is wrapped. An error that wraps ErrDisk, and perhaps ErrNoRoom, is
// this host's; what it had room for is kept.
func (u *Upload) ReadFrom(r io.Reader) (total int64, err error) {
	t, err := u.newTrail()
	if err != nil {
		return 0, err
	}
	defer t.end()
	for {
		buf := t.buffer()
		n, rerr := readPiece(r, buf)
		m, err := t.write(buf[:n], rerr != nil)
		total += int64(m)
		switch {
		case err != nil:
			return total, err
		case rerr == io.EOF:
			return total, nil
		case rerr != nil:
			return total, fmt.Errorf("receiving upload %s behind byte %d: %w", u.name, u.Size(), rerr)
		}
	}
}

// readPiece fills buf, unless r ends before.
func readPiece(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

// Write appends p. Its errors are those of ReadFrom.
func (u *Upload) Write(p []byte) (n int, err error) {
	if !u.c.enter() {
		return 0, uploadTrouble(errClosed)
	}
	defer u.c.work.Done()
	if err := u.hashOn(); err != nil { // an earlier process's bytes: before there are more
		return 0, err
	}
	n, err = u.write(p)
	u.hash(p[:n])
	return n, err
}

// write is Write without the hash.
func (u *Upload) write(p []byte) (n int, err error) {
	size, err := u.reserve(int64(len(p)))
	if err != nil {
		return 0, err
	}
	n, err = u.f.WriteAt(p, size)
	if n > 0 {
		u.other = manifest.Digest{}
	}
	u.grow(int64(n))
	if err != nil {
		_ = u.f.Truncate(size + int64(n)) // the length is what a restart goes by
		return n, uploadTrouble(fmt.Errorf("writing upload %s behind byte %d: %w", u.name, size+int64(n), err))
	}
	return n, nil
}

// reserve makes room for n more bytes, and returns how many there are.
func (u *Upload) reserve(n int64) (size int64, err error) {
	u.mu.Lock()
	size, taken, over := u.size, u.taken, u.over
	u.mu.Unlock()
	if over != nil {
		return size, fmt.Errorf("upload %s: %w", u.name, errUploadOver)
	}
	need := roundUp(size+n) - taken
	if need <= 0 {
		return size, nil
	}
	if err := u.c.shareUploads(taken, need); err != nil {
		return size, uploadTrouble(fmt.Errorf("upload %s behind byte %d: %w", u.name, size, err))
	}
	if err := u.c.ledger.take(need, 0); err != nil {
		return size, uploadTrouble(fmt.Errorf("upload %s behind byte %d: %w", u.name, size, err))
	}
	u.mu.Lock()
	u.taken += need
	u.mu.Unlock()
	return size, nil
}

// uploadTrouble has err say that it is this host's, and whether it is about room.
func uploadTrouble(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w: %w", ErrDisk, ErrNoRoom, err)
	}
	return fmt.Errorf("%w: %w", ErrDisk, err)
}
