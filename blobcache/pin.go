package blobcache

import (
	"sync"
	"time"

	"hostlocal/manifest"
)

// Pin keeps d from being evicted until the returned function is called, once. It
// reports false if d is not complete here. A pin is on the digest and not on the
// file: one that is found damaged goes, and the one that a fill brings in its place
// is pinned too.
func (c *Cache) Pin(d manifest.Digest) (unpin func(), ok bool) {
	b, err := c.Open(d)
	if err != nil {
		return nil, false
	}
	defer b.Close()
	if !c.index.pin(d, time.Now()) {
		return nil, false
	}
	return sync.OnceFunc(func() { c.index.unpin(d) }), true
}

// pin holds the entry of d, and whichever takes its place, until unpin. All pins of a
// digest are one hold. It reports false if the index does not know d.
func (x *index) pin(d manifest.Digest, now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.entries.get(d)
	if e == nil {
		return false
	}
	if e.look(now) {
		e.set(flagHot)
	}
	if x.pins[d]++; x.pins[d] == 1 {
		x.retain(e)
	}
	return true
}

// unpin ends one pin. No bytes come free by it: an entry that is found by its digest
// has a file.
func (x *index) unpin(d manifest.Digest) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.pins[d]--; x.pins[d] > 0 {
		return
	}
	delete(x.pins, d)
	if e := x.entries.get(d); e != nil {
		x.letGo(e)
	}
}

// unpinned ends the hold that the pins of d have on e, whose file is going: only its
// readers keep its room taken.
func (x *index) unpinned(d manifest.Digest, e *entry) {
	if x.pins[d] > 0 {
		x.letGo(e)
	}
}
