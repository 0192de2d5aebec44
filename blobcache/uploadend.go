package blobcache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"hostlocal/manifest"
)

// Commit makes the upload the present blob d, by rename, and returns when it is
// durable. If d is present already the upload just goes. A failure leaves nothing
// behind but a miss: it wraps manifest.ErrMismatch if the bytes are not d, else
// ErrDisk. Followers should have had what they need: they get fs.ErrClosed.
func (u *Upload) Commit(d manifest.Digest) error {
	if !u.c.enter() {
		return uploadTrouble(errClosed)
	}
	defer u.c.work.Done()
	err := u.is(d)
	taken, ok := u.end(io.EOF)
	switch {
	case !ok:
		return fmt.Errorf("upload %s: %w", u.name, errUploadOver)
	case err != nil || u.c.Has(d):
		u.drop(taken)
		return err
	}
	err = fmt.Errorf("upload %s lost its name: %w", u.name, fs.ErrNotExist)
	if stillThere(u.f, u.path) {
		var e *entry
		if e, err = u.c.publish(d, u.f, u.path, taken); err == nil {
			u.f.Close()
			u.c.uploads.forget(u.name)
			u.c.release(e)
			return nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		// Somebody removed the folder. The bytes are still at hand.
		err = u.c.put(d, io.NewSectionReader(u.f, 0, u.Size()), u.Size())
	}
	u.drop(taken)
	if err != nil {
		return uploadTrouble(err)
	}
	return nil
}

// is returns an error unless the upload has the digest d: a caller's check is not
// enough for a name that is believed from here on.
func (u *Upload) is(d manifest.Digest) error {
	got, err := u.digest(d.Algorithm())
	if err == nil && got != d {
		err = fmt.Errorf("%w: want %s, got %s", manifest.ErrMismatch, d, got)
	}
	if err != nil {
		return err
	}
	fi, err := u.f.Stat()
	if err == nil && fi.Size() != u.Size() {
		err = fmt.Errorf("%d bytes were written to upload %s, and it has %d", u.Size(), u.name, fi.Size())
	}
	if err != nil {
		return uploadTrouble(err)
	}
	return nil
}

// Abort removes the upload.
func (u *Upload) Abort() {
	if !u.c.enter() {
		return // it was closed with the cache, and expires
	}
	defer u.c.work.Done()
	if taken, ok := u.end(fs.ErrClosed); ok {
		u.drop(taken)
	}
}

// Close leaves the upload for OpenUpload.
func (u *Upload) Close() error {
	if !u.c.enter() {
		return nil // the cache closes it
	}
	defer u.c.work.Done()
	return u.close(fs.ErrClosed)
}

// close leaves the upload for later; why is what its followers get, if they wait.
func (u *Upload) close(why error) error {
	taken, ok := u.end(why)
	if !ok {
		return nil
	}
	fi, err := u.f.Stat()
	if cerr := u.f.Close(); err == nil {
		err = cerr
	}
	kept := resting{blocks: taken, size: u.Size(), sum: u.sum, hashed: u.hashed}
	if fi != nil {
		kept.blocks, kept.grew = blocksOf(fi), fi.ModTime()
	}
	u.c.ledger.addFixed(kept.blocks - taken)
	u.c.uploads.rest(u.name, kept)
	if err != nil {
		return uploadTrouble(fmt.Errorf("closing upload %s: %w", u.name, err))
	}
	return nil
}

// end takes the upload from whoever has it, and returns the bytes of the ledger's
// that it holds. It reports false if that was done before.
func (u *Upload) end(why error) (taken int64, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended {
		return 0, false
	}
	u.ended = true
	if u.over == nil {
		u.over = why
	}
	u.tell()
	taken, u.taken = u.taken, 0
	return taken, true
}

// drop removes the file of an upload that has ended. One that cannot be removed stays
// and counts; it is the first to go when somebody looks again.
func (u *Upload) drop(taken int64) {
	err := os.Remove(u.path)
	u.f.Close()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		u.c.uploads.rest(u.name, resting{blocks: taken})
		return
	}
	u.c.uploads.forget(u.name)
	u.c.ledger.settle(taken, 0)
}
