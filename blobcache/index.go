package blobcache

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"hostlocal/manifest"
)

const (
	// smallBlob is what a blob must be under to be kept apart. Such blobs are
	// 65% of all layers and 0.2% of all bytes, and each costs a round trip of its
	// own to fetch again, so they are worth far more than the room they take.
	smallBlob = 1 << 20

	// correlated is the time within which a second look at a blob belongs to the
	// same pull: a client that fetches a layer in ranges opens it many times.
	correlated = 10 * time.Second
)

// index knows which blobs lie on the disk, what they take, and which of them goes
// next. It is memory only: the files are the truth, and an index that knows
// nothing yet costs no hit, only the ability to evict.
//
// The order is S3-FIFO's: a blob enters probation; looked at again before its
// turn comes it moves to the protected queue, else it goes and leaves a ghost.
// Hits only set a flag, so they contend for nothing but the mutex.
type index struct {
	mu      sync.Mutex                       // guards all below; no I/O and no other lock under it
	entries entries                          // of files that were published or looked at since the start
	shelf   shelf                            // the other files
	queues  [afterQueues]*queue              // by number; none has number 0
	ghosts  *simplelru.LRU[uint64, struct{}] // by firstBits: to confuse two costs nothing
	pins    map[manifest.Digest]int          // how many there are of a digest, whether it has an entry or not
	held    int64                            // bytes of entries with holds
	present int64                            // bytes of all entries, and of the shelf
	scanned int64                            // bytes that the scan found, of what the mark stands in for
	summed  bool                             // the sum has replaced the mark
}

func newIndex() *index {
	g, err := simplelru.NewLRU[uint64, struct{}](ghosts, nil)
	if err != nil {
		panic(err) // only a size below one is refused
	}
	x := &index{entries: newEntries(), shelf: newShelf(), ghosts: g, pins: make(map[manifest.Digest]int)}
	for n := 1; n < afterQueues; n++ {
		x.queues[n] = newQueue(n)
	}
	return x
}

// put enters a file that was published just now and takes blocks bytes, and
// returns it held. counted are the bytes by which the ledger has a file that it
// replaced.
func (x *index) put(d manifest.Digest, size, blocks int64, now time.Time) (e *entry, counted int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch before := x.entries.get(d); {
	case before != nil:
		counted = x.replaced(d, before)
	case x.summed:
		counted = x.unshelved(d)
	default:
		x.scanned -= x.unshelved(d)
	}
	e = x.enter(d, size, blocks, now)
	x.retain(e)
	return e, counted
}

// adopt enters a file that somebody looks at and this process did not publish, last
// seen then. It returns the bytes that the ledger lacks for it: none while the mark
// stands in.
func (x *index) adopt(d manifest.Digest, size, blocks int64, seen time.Time) (lacking int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.entries.get(d) != nil {
		return 0
	}
	shelved := x.unshelved(d)
	e := x.enter(d, size, blocks, seen)
	if x.summed {
		return blocks - shelved
	}
	e.set(flagOld)
	x.scanned += blocks - shelved
	return 0
}

func (x *index) enter(d manifest.Digest, size, blocks int64, now time.Time) *entry {
	e := x.entries.add(d, blocks, now)
	x.present += blocks
	n := probationQueue
	switch {
	case size < smallBlob:
		n = smallQueue
	case x.ghosts.Remove(firstBits(e.sum)):
		n = protectedQueue
	}
	x.queues[n].push(e)
	if x.pins[d] > 0 {
		x.retain(e)
	}
	return e
}

// replaced takes an entry out whose file another was renamed over, and returns the
// bytes that the ledger has for it: none if somebody still reads it, for it counts
// until then, and none if the mark stands in for it.
func (x *index) replaced(d manifest.Digest, e *entry) (counted int64) {
	x.unpinned(d, e)
	switch {
	case e.holds > 0:
		x.unlink(e)
		return 0
	case e.is(flagOld) && !x.summed:
		x.scanned -= e.blocks()
	default:
		counted = e.blocks()
	}
	x.drop(e)
	return counted
}

// unlink takes an entry out whose file is gone but for those who hold it.
func (x *index) unlink(e *entry) {
	x.dequeue(e)
	e.set(flagGone)
	x.entries.remove(e)
}

// drop forgets an entry that nobody holds.
func (x *index) drop(e *entry) {
	x.dequeue(e)
	x.present -= e.blocks()
	x.entries.remove(e)
}

func (x *index) dequeue(e *entry) {
	if n := e.queue(); n > 0 {
		x.queues[n].remove(e)
	}
}

// retain adds a hold.
func (x *index) retain(e *entry) {
	if e.holds++; e.holds == 1 {
		x.held += e.blocks()
	}
}

// hold keeps d from being evicted until release, and counts as a look at it. It
// returns nil if the index does not know d.
func (x *index) hold(d manifest.Digest, now time.Time) *entry {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.entries.get(d)
	if e == nil {
		return nil
	}
	if e.look(now) {
		e.set(flagHot)
	}
	x.retain(e)
	return e
}

// release ends a hold. It returns the bytes that come free by it: those of a
// removed file whose last reader this was.
func (x *index) release(e *entry) (freed int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.letGo(e)
}

func (x *index) letGo(e *entry) (freed int64) {
	if e.holds--; e.holds > 0 {
		return 0
	}
	x.held -= e.blocks()
	if !e.is(flagGone) {
		return 0
	}
	x.present -= e.blocks()
	return e.blocks()
}

// forget takes d out of the index because its file was removed. It returns the
// bytes that came free: none yet if somebody reads the file.
func (x *index) forget(d manifest.Digest) (freed int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.entries.get(d)
	if e == nil {
		return x.unshelved(d)
	}
	x.unpinned(d, e)
	if e.holds == 0 {
		x.drop(e)
		return e.blocks()
	}
	x.unlink(e)
	return 0
}

// isGone reports whether the file of e has lost its name.
func (x *index) isGone(e *entry) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return e.is(flagGone)
}

// knows reports whether d is in the index.
func (x *index) knows(d manifest.Digest) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.entries.get(d) != nil || x.shelf.has(d)
}

// sumScanned ends the scan: it returns the bytes that it found, evicted since or
// not, and what is found from here on is not among them.
func (x *index) sumScanned() int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.summed = true
	return x.scanned
}

// sums returns the bytes of all entries, of those that are held, and the count.
func (x *index) sums() (present, held int64, count int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.present, x.held, x.entries.len() + len(x.shelf.files)
}
