package blobcache

import (
	"errors"
	"fmt"
	"os"

	"hostlocal/manifest"
)

// again decides whether what failed can be tried again without anybody noticing:
// no reader has had a byte, and another source is left. It is for bytes that were
// wrong, and for the one source of a blob that had been wrong before: either way
// the next attempt, here or in the next fill, is another source's.
func (f *fill) again(err error) bool {
	wrong := errors.Is(err, manifest.ErrMismatch)
	if !wrong && !f.single || errors.Is(err, errStorage) || f.ctx.Err() != nil {
		return false
	}
	source := f.opener.name()
	if wrong {
		f.c.suspect(f.digest, source)
	} else {
		f.c.avoid(f.digest, source)
	}
	f.mu.Lock()
	again := !f.open && f.opener.dismiss(err)
	if again {
		f.landed, f.hashed, f.fatal, f.claims, f.only, f.sizedBy = nil, 0, nil, nil, nil, nil
		f.size, f.said, f.single = f.want.Size, false, true
	}
	f.mu.Unlock()
	if again && wrong {
		f.c.stats.fill(source, "mismatch")
	}
	return again
}

// finish publishes a verified blob, or keeps or drops what there is, and takes
// the fill out of the cache.
func (f *fill) finish(err error) {
	source := f.opener.name()
	switch {
	case err == nil:
		err = f.publish()
	case f.part == nil:
	case errors.Is(err, manifest.ErrMismatch), errors.Is(err, errStorage), f.single, f.empty():
		f.discard(err)
	default:
		f.keep()
	}
	f.c.ledger.unpromise(f.promised)
	f.c.endFill(f)
	f.mu.Lock()
	if err != nil && !f.verified {
		f.err = err
	}
	f.answer()
	f.tell()
	if f.timer != nil {
		f.timer.Stop()
	}
	f.mu.Unlock()
	close(f.ended)
	f.report(source, err)
}

// empty reports whether nothing has landed: there is nothing to go on from.
func (f *fill) empty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.landed) == 0
}

// keep leaves what there is to a later fill, and until then to whoever needs the room.
func (f *fill) keep() {
	f.part.close()
	blocks := f.part.blocks()
	f.c.ledger.settle(f.taken, blocks)
	f.c.scraps.add(f.part.path, blocks)
}

// discard removes what there is. Wrong bytes go from under their readers, whose
// connections break by it; others may read to the end what they had begun with, and
// its room is not free before the last of them is gone.
func (f *fill) discard(err error) {
	f.mu.Lock()
	if !f.verified {
		f.err = err // before the file goes: who does not find it looks here
	}
	f.mu.Unlock()
	if errors.Is(err, manifest.ErrMismatch) {
		_ = f.part.f.Truncate(0)
	}
	f.part.remove()
	f.mu.Lock()
	free := f.taken
	if f.readers > 0 {
		f.owed, free = free, 0
	}
	f.mu.Unlock()
	f.c.ledger.settle(free, 0)
}

// publish puts the verified file in its place. Readers have their own
// descriptors of it; the hold on its entry counts its bytes until the last of them
// is gone. The map goes last: until then a restart finds all that has landed.
func (f *fill) publish() error {
	f.part.closeMap()
	err := f.part.f.Truncate(f.size) // room was set aside, or written by an earlier fill, behind the end
	var e *entry
	if err == nil {
		e, err = f.c.publish(f.digest, f.part.f, f.part.path, f.taken)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", errStorage, err)
		f.discard(err)
		return err
	}
	os.Remove(f.part.path + mapSuffix)
	f.part.f.Close()
	f.mu.Lock()
	if f.readers > 0 {
		f.entry, e = e, nil
	}
	f.mu.Unlock()
	f.c.release(e)
	return nil
}

// report counts and logs how the fill ended.
func (f *fill) report(source string, err error) {
	result := "ok"
	switch {
	case err == nil:
	case errors.Is(err, errPublished):
		return
	case errors.Is(err, manifest.ErrMismatch):
		result = "mismatch"
	case errors.Is(err, errStorage):
		result = "storage"
	case f.c.ctx.Err() != nil:
		result = "stopped"
	default:
		result = "failed"
	}
	f.c.stats.fill(source, result)
	if result == "storage" && !f.c.stats.shouldSay() {
		return // a full disk lasts, and every pull has such a fill
	}
	if err != nil && result != "stopped" {
		f.c.log.Warn("blobcache: fill ended", "digest", f.digest, "source", source, "result", result, "err", err)
	}
}
