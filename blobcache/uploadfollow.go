package blobcache

import (
	"context"
	"fmt"
	"io"
	"io/fs"
)

// ReadAtContext reads into p from byte off on, and waits for what is still to come:
// so an upload can be sent on while it arrives. It returns less than all of p only
// with an error: io.EOF at the end that Finish has said, Fail's error, ctx's, or
// fs.ErrClosed if the upload was ended under the follower. It may be called from many
// goroutines; a follower that leaves costs nothing and holds nobody up.
func (u *Upload) ReadAtContext(ctx context.Context, p []byte, off int64) (n int, err error) {
	for n < len(p) {
		until, err := u.await(ctx, off+int64(n))
		if err != nil {
			return n, err
		}
		m, err := u.f.ReadAt(p[n:min(int64(len(p)), until-off)], off+int64(n))
		n += m
		if m == 0 {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF // somebody truncated it: that is not its end
			}
			return n, uploadTrouble(fmt.Errorf("reading upload %s at byte %d: %w", u.name, off+int64(n), err))
		}
	}
	return n, nil
}

// await returns up to where a follower at off may read, once that is beyond off.
func (u *Upload) await(ctx context.Context, off int64) (until int64, err error) {
	for {
		until, changed, err := u.look(off)
		if changed == nil {
			return until, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
		case <-u.c.ctx.Done():
			err = uploadTrouble(errClosed)
		}
		u.mu.Lock()
		u.waiting--
		u.mu.Unlock()
		if err != nil {
			return off, err
		}
	}
}

// look returns what a follower at off may have; or else it is counted as waiting,
// and gets a channel that is closed when it should look again.
func (u *Upload) look(off int64) (until int64, changed chan struct{}, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.over != nil && u.over != io.EOF:
		return off, nil, u.over // of no use any more, all of it
	case u.ended:
		return off, nil, fmt.Errorf("following upload %s: %w", u.name, fs.ErrClosed)
	case u.size > off:
		return u.size, nil, nil
	case u.over != nil:
		return off, nil, u.over
	}
	u.waiting++
	return off, u.changed, nil
}

// grow lets the followers have n more bytes.
func (u *Upload) grow(n int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.size += n
	if n > 0 {
		u.tell()
	}
}

// tell wakes the followers. The caller holds mu.
func (u *Upload) tell() {
	if u.waiting > 0 {
		close(u.changed)
		u.changed = make(chan struct{})
	}
}

// Finish says that all bytes are here: followers get io.EOF behind the last one, and
// nothing can be appended.
func (u *Upload) Finish() { u.stop(io.EOF) }

// Fail says that no more bytes come, because of err: followers get it now, those that
// had bytes left to read too. Nothing can be appended before the upload was closed and
// opened again.
func (u *Upload) Fail(err error) { u.stop(err) }

// stop ends what followers wait for, unless that was done before.
func (u *Upload) stop(why error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over == nil {
		u.over = why
		u.tell()
	}
}
