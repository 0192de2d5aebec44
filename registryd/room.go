package registryd

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/semaphore"

	"hostlocal/manifest"
)

const (
	// roomBytes bounds the bodies of large manifests that are being read and parsed
	// at once, in bytes. Parsed they take up to four times as much, so half of what
	// the daemon may have. Two cores are busy with four of the largest.
	roomBytes = 4 * manifest.MaxSize

	// roomShare is what one source may have of it: what one sends slowly must not
	// keep another's from being read.
	roomShare = 2 * manifest.MaxSize

	// roomWait bounds the wait for it, within what a client waits for an answer.
	roomWait = 5 * time.Second
)

// errNoRoom says that a manifest is too large to be read now.
var errNoRoom = errors.New("too many large manifests are being read")

// A room is what one source may have in memory of large manifests. The ordinary
// ones, of at most manifest.Small bytes, need none: what is asked of a source at once
// bounds them, and they never wait for large ones.
type room struct {
	source   string
	own, all *semaphore.Weighted // taken in this order
}

func newRoom(source string, all *semaphore.Weighted) *room {
	return &room{source, semaphore.NewWeighted(roomShare), all}
}

func (r *room) try(n int64) bool {
	if !r.own.TryAcquire(n) {
		return false
	}
	if !r.all.TryAcquire(n) {
		r.own.Release(n)
		return false
	}
	return true
}

func (r *room) wait(ctx context.Context, n int64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, roomWait, busyError{r.source})
	defer cancel()
	if r.own.Acquire(ctx, n) != nil {
		return context.Cause(ctx)
	}
	if r.all.Acquire(ctx, n) != nil {
		r.own.Release(n)
		return context.Cause(ctx)
	}
	return nil
}

// A reservation is the room for one manifest. Nobody waits for room with an answer
// open: HTTP/2 buffers what is not read, as much as the room itself. So the answer
// that finds none is given up, and asked for again when there is.
type reservation struct {
	room *room
	held int64 // bytes
	want int64 // that were not to be had, in bytes
}

// need has room for n bytes, or returns errNoRoom.
func (r *reservation) need(n int64) error {
	if n <= r.held {
		return nil
	}
	if !r.room.try(n - r.held) {
		r.want = n
		return errNoRoom
	}
	r.held = n
	return nil
}

// must is need, and waits for a client's body: that cannot be asked for again, and stays
// unread meanwhile.
func (r *reservation) must(ctx context.Context, n int64) error {
	err := r.need(n)
	if errors.Is(err, errNoRoom) {
		err = r.wait(ctx)
	}
	return err
}

// wait waits for what need has not got.
func (r *reservation) wait(ctx context.Context) error {
	r.free()
	if err := r.room.wait(ctx, r.want); err != nil {
		return err
	}
	r.held = r.want
	return nil
}

// free gives the room back. It may be called more than once.
func (r *reservation) free() {
	if r.held > 0 {
		r.room.own.Release(r.held)
		r.room.all.Release(r.held)
		r.held = 0
	}
}

// with calls read until it was not in want of room, twice at the most.
func (r *reservation) with(ctx context.Context, read func() error) error {
	err := read()
	if errors.Is(err, errNoRoom) {
		if err = r.wait(ctx); err == nil {
			err = read()
		}
	}
	if errors.Is(err, errNoRoom) {
		err = busyError{r.room.source} // it has grown since
	}
	return err
}
