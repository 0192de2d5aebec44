package blobcache

import (
	"iter"

	"hostlocal/manifest"
)

// hand goes round through the folders of blobs, and stands where it was when the last
// file was taken: to find one that is to go costs the look at a few names. Who evicts
// has it, so the ledger's evicting guards it.
type hand struct {
	next  func() (manifest.Digest, bool)
	stop  func()
	whole bool  // the round began when the shelf was complete
	err   error // of the round: a folder could not be read
}

// takeFromShelf takes a file off the shelf, a small one or a large one, and returns its
// entry, which the index does not have any more. e is nil if the round met none: freed
// are then the bytes of those that somebody must have removed. ok is false if there may
// be some all the same.
func (c *Cache) takeFromShelf(small bool) (d manifest.Digest, e *entry, freed int64, ok bool) {
	h := &c.hand
	for ends := 0; ends < 2 && c.ctx.Err() == nil; { // the first may be the end of half a round
		if h.next == nil {
			h.whole, h.err = c.stats.scanned.Load(), nil
			h.next, h.stop = iter.Pull(func(yield func(manifest.Digest) bool) { h.err = c.stored(yield) })
		}
		d, ok := h.next()
		if !ok {
			h.next = nil
			ends++
		} else if e := c.index.unshelve(d, small); e != nil {
			return d, e, 0, true
		}
	}
	if !h.whole || h.err != nil || c.ctx.Err() != nil {
		return d, nil, 0, false
	}
	return d, nil, c.index.clearShelf(small), true
}

// end ends the round, for good.
func (h *hand) end() {
	if h.next != nil {
		h.stop()
		h.next = nil
	}
}
