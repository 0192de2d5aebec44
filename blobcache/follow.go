package blobcache

import (
	"context"
	"errors"
	"io"
	"time"

	"hostlocal/manifest"
)

const (
	// tellBytes and tellAfter bound how often waiting readers are woken: a
	// thousand of them woken for each packet cost more than the bytes do. The first
	// bytes are told at once; later ones after that many bytes or that long,
	// whichever comes first.
	tellBytes = 512 << 10
	tellAfter = 5 * time.Millisecond

	// whole is up to which size a caller of Get waits for the verified blob rather
	// than for its first byte. It costs a round trip's tail and turns a mismatch, or
	// a source that breaks off, into a clean error or another source's bytes.
	whole = 64 << 10
)

// join counts a reader, and says whether all of the blob was here before it came;
// leave undoes it. A fill that has failed, and is about to leave the cache, takes
// none any more.
func (f *fill) join() (late, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return false, false
	}
	f.readers++
	return f.verified, true
}

func (f *fill) leave() {
	f.mu.Lock()
	var e *entry
	var owed int64
	if f.readers--; f.readers == 0 {
		e, f.entry = f.entry, nil
		owed, f.owed = f.owed, 0
	}
	f.mu.Unlock()
	f.c.release(e)
	f.c.ledger.settle(owed, 0)
}

// failure is why the fill failed, nil if it has not.
func (f *fill) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// answer lets Get return. The caller holds mu.
func (f *fill) answer() {
	if !f.open {
		f.open = true
		close(f.answered)
	}
}

// tell wakes the readers. The caller holds mu.
func (f *fill) tell() {
	close(f.changed)
	f.changed = make(chan struct{})
	f.told, f.untold = time.Now(), 0
}

// tellSoon tells the readers of n more bytes, now or shortly. The caller holds mu.
func (f *fill) tellSoon(n int64) {
	f.untold += n
	if f.asleep == 0 {
		return
	}
	since := time.Since(f.told)
	switch {
	case f.untold >= tellBytes || since >= tellAfter:
		f.tell()
	case f.timer == nil:
		f.timer = time.AfterFunc(tellAfter-since, f.tellLate)
	default:
		f.timer.Reset(tellAfter - since)
	}
}

func (f *fill) tellLate() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.untold > 0 {
		f.tell()
	}
}

// visible returns how far a reader at off may read: to the end of what has landed
// there, less the last byte of a blob that is not verified, and less one byte as
// long as nobody but a descriptor said which byte that is. If a source says that it
// is a later one, the descriptor's is held back all the same: a range may end
// there. The caller holds mu.
func (f *fill) visible(off int64) int64 {
	until := f.landed.until(off)
	if f.verified {
		return until
	}
	if !f.said || until >= f.size {
		until--
	}
	if f.want.Size > 0 {
		until = min(until, f.want.Size-1)
	}
	return max(off, until)
}

// wait returns up to where a reader at off may read now, waiting until that is
// beyond off. hurry is the reader that gets a fetch of its own if it waits far
// ahead of all others, nil for one that can wait; idle is called once, before the
// first wait. At the end of the blob the error is io.EOF.
func (f *fill) wait(ctx context.Context, hurry *Blob, off int64, idle func()) (int64, error) {
	for {
		until, changed, err := f.look(off)
		if changed == nil {
			return until, err
		}
		if idle != nil {
			idle()
			idle = nil
			continue // what landed meanwhile goes first
		}
		if changed = f.sleep(hurry, off, changed); changed == nil {
			continue
		}
		select {
		case <-changed:
			f.awake(hurry)
		case <-ctx.Done():
			f.awake(hurry)
			return off, ctx.Err()
		}
	}
}

// look returns what a reader at off may have; or else a channel that is closed
// when it should look again.
func (f *fill) look(off int64) (until int64, changed chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case errors.Is(f.err, manifest.ErrMismatch):
		return off, nil, f.err // what has landed is no good to anybody
	case f.verified && off == f.size:
		return off, nil, io.EOF
	case f.verified && off > f.size:
		return off, nil, errSize // of what another source had sent
	}
	if until := f.visible(off); until > off {
		return until, nil, nil
	}
	if f.err != nil {
		return off, nil, f.err
	}
	return off, f.changed, nil
}

// sleep enters a reader into the plan; nil if something changed since it looked.
func (f *fill) sleep(hurry *Blob, off int64, changed chan struct{}) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed != changed || f.untold > 0 && f.visible(off) > off {
		return nil
	}
	f.asleep++
	if hurry != nil {
		if at, ok := f.waiting[hurry]; !ok || at != off {
			f.waiting[hurry] = off
			f.poke()
		}
	}
	return f.changed
}

// awake takes a reader that waits no longer out of the plan.
func (f *fill) awake(hurry *Blob) {
	f.mu.Lock()
	f.asleep--
	delete(f.waiting, hurry)
	f.mu.Unlock()
}

// poke has run look at the plan again.
func (f *fill) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}
