package blobcache

import (
	"maps"
	"math"
	"slices"
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

	// smallShare is the part of the budget (one in smallShare) up to which small
	// blobs are favoured. Without a bound a flood of configs would push every
	// layer out.
	smallShare = 4

	// probationShare is the part of the budget (one in probationShare) that blobs
	// of which only one pull is known may hold while others have proved
	// themselves: a tenth, as in S3-FIFO. It is what makes the order scan-resistant.
	probationShare = 10

	// ghosts is how many evicted digests are remembered. One that is fetched
	// again while it is remembered was evicted too early and skips probation.
	ghosts = 16384

	// correlated is the time within which a second look at a blob belongs to the
	// same pull: a client that fetches a layer in ranges opens it many times.
	correlated = 10 * time.Second
)

// An entry is what the index knows of one file under blobs/.
type entry struct {
	digest manifest.Digest
	blocks int64 // bytes that the file takes on the disk
	queue  *queue
	seen   time.Time // the last look that counted
	holds  int32     // readers and pins: while there are any the file stays
	hot    bool      // looked at again since it was queued
	gone   bool      // its file has no name any more; counts until the last hold ends
	old    bool      // found by the scan at start, so part of the mark it stands in for
}

// A queue is a FIFO of entries with the sum of their bytes. Its order is
// simplelru's, whose count bound is put out of reach: what is evicted when is
// decided by bytes, here.
type queue struct {
	lru   *simplelru.LRU[manifest.Digest, *entry]
	bytes int64
}

func newQueue() *queue {
	lru, err := simplelru.NewLRU[manifest.Digest, *entry](math.MaxInt, nil)
	if err != nil {
		panic(err) // only a size below one is refused
	}
	return &queue{lru: lru}
}

func (q *queue) push(e *entry) {
	e.queue, e.hot = q, false
	q.lru.Add(e.digest, e)
	q.bytes += e.blocks
}

func (q *queue) remove(e *entry) {
	if q.lru.Remove(e.digest) {
		q.bytes -= e.blocks
	}
	e.queue = nil
}

// oldest takes the oldest entry that nobody holds out of the queue. Entries that
// are held go to the young end as they are met; those that were looked at since
// they were queued go to the young end of next.
func (q *queue) oldest(next *queue) *entry {
	for range q.lru.Len() {
		_, e, _ := q.lru.GetOldest()
		q.remove(e)
		switch {
		case e.holds > 0:
			q.push(e)
		case e.hot:
			next.push(e)
		default:
			return e
		}
	}
	return nil
}

// index knows which blobs lie on the disk, what they take, and which of them goes
// next. It is memory only: the files are the truth, and an index that knows
// nothing yet costs no hit, only the ability to evict.
//
// The order is S3-FIFO's: a blob enters probation; looked at again before its
// turn comes it moves to the protected queue, else it goes and leaves a ghost.
// Hits only set a flag, so they contend for nothing but the mutex.
type index struct {
	mu        sync.Mutex // guards all below; no I/O and no other lock under it
	entries   map[manifest.Digest]*entry
	small     *queue
	probation *queue
	protected *queue
	ghosts    *simplelru.LRU[manifest.Digest, struct{}]
	held      int64 // bytes of entries with holds
	present   int64 // bytes of all entries
	scanned   int64 // bytes that the scan found, of what the mark stands in for
	summed    bool  // the sum has replaced the mark
}

func newIndex() *index {
	g, err := simplelru.NewLRU[manifest.Digest, struct{}](ghosts, nil)
	if err != nil {
		panic(err)
	}
	return &index{
		entries: make(map[manifest.Digest]*entry),
		small:   newQueue(), probation: newQueue(), protected: newQueue(),
		ghosts: g,
	}
}

// put enters a file that was published just now and takes blocks bytes, and
// returns it held. counted are the bytes by which the ledger has a file that it
// replaced.
func (x *index) put(d manifest.Digest, size, blocks int64, now time.Time) (e *entry, counted int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old := x.entries[d]; old != nil {
		counted = x.replaced(old)
	}
	e = &entry{digest: d, blocks: blocks, seen: now, holds: 1}
	x.held += blocks
	x.enter(e, size)
	return e, counted
}

// found enters a file that lies there and that this process did not publish. It
// returns the bytes that the ledger lacks for it: none while the mark stands in.
func (x *index) found(d manifest.Digest, size, blocks int64, now time.Time) (lacking int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.entries[d] != nil {
		return 0
	}
	x.enter(&entry{digest: d, blocks: blocks, seen: now, old: !x.summed}, size)
	if x.summed {
		return blocks
	}
	x.scanned += blocks
	return 0
}

func (x *index) enter(e *entry, size int64) {
	x.entries[e.digest] = e
	x.present += e.blocks
	switch {
	case size < smallBlob:
		x.small.push(e)
	case x.ghosts.Remove(e.digest):
		x.protected.push(e)
	default:
		x.probation.push(e)
	}
}

// replaced takes an entry out whose file another was renamed over, and returns the
// bytes that the ledger has for it: none if somebody still reads it, for it counts
// until then, and none if the mark stands in for it.
func (x *index) replaced(e *entry) (counted int64) {
	switch {
	case e.holds > 0:
		x.unlink(e)
		return 0
	case e.old && !x.summed:
		x.scanned -= e.blocks
	default:
		counted = e.blocks
	}
	x.drop(e)
	return counted
}

// unlink takes an entry out whose file is gone but for those who hold it.
func (x *index) unlink(e *entry) {
	e.queue.remove(e)
	e.gone = true
	delete(x.entries, e.digest)
}

// drop forgets an entry that nobody holds.
func (x *index) drop(e *entry) {
	if e.queue != nil {
		e.queue.remove(e)
	}
	x.present -= e.blocks
	if x.entries[e.digest] == e {
		delete(x.entries, e.digest)
	}
}

// hold keeps d from being evicted until release, and counts as a look at it. It
// returns nil if the index does not know d.
func (x *index) hold(d manifest.Digest, now time.Time) *entry {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.entries[d]
	if e == nil {
		return nil
	}
	if now.Sub(e.seen) > correlated {
		e.hot, e.seen = true, now
	}
	if e.holds++; e.holds == 1 {
		x.held += e.blocks
	}
	return e
}

// release ends a hold. It returns the bytes that come free by it: those of a
// removed file whose last reader this was.
func (x *index) release(e *entry) (freed int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e.holds--; e.holds > 0 {
		return 0
	}
	x.held -= e.blocks
	if !e.gone {
		return 0
	}
	x.present -= e.blocks
	return e.blocks
}

// victim takes the entry that is to go next out of the index; nil if every entry
// is held. The caller unlinks the file and only then counts the bytes as free.
func (x *index) victim(budget int64) *entry {
	x.mu.Lock()
	defer x.mu.Unlock()
	var e *entry
	if x.small.bytes > budget/smallShare {
		e = x.small.oldest(x.small)
	}
	if e == nil && (x.probation.bytes > budget/probationShare || x.protected.lru.Len() == 0) {
		if e = x.probation.oldest(x.protected); e != nil {
			x.ghosts.Add(e.digest, struct{}{})
		}
	}
	for _, q := range []*queue{x.protected, x.probation, x.small} {
		for range 2 { // the first round may only clear the marks of recent looks
			if e == nil {
				e = q.oldest(q)
			}
		}
	}
	if e != nil {
		x.drop(e)
	}
	return e
}

// putBack undoes victim, for a file that could not be removed.
func (x *index) putBack(e *entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.entries[e.digest] != nil {
		return
	}
	x.entries[e.digest] = e
	x.present += e.blocks
	x.probation.push(e)
}

// forget takes d out of the index because its file was removed. It returns the
// bytes that came free: none yet if somebody reads the file.
func (x *index) forget(d manifest.Digest) (freed int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.entries[d]
	if e == nil {
		return 0
	}
	if e.holds == 0 {
		x.drop(e)
		return e.blocks
	}
	x.unlink(e)
	return 0
}

// isGone reports whether the file of e has lost its name.
func (x *index) isGone(e *entry) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return e.gone
}

// knows reports whether d is in the index.
func (x *index) knows(d manifest.Digest) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.entries[d] != nil
}

// sumScanned ends the scan: it returns the bytes that it found, evicted since or
// not, and what is found from here on is not among them.
func (x *index) sumScanned() int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.summed = true
	return x.scanned
}

// digests returns what the index knows.
func (x *index) digests() []manifest.Digest {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Collect(maps.Keys(x.entries))
}

// sums returns the bytes of all entries, of those that are held, and the count.
func (x *index) sums() (present, held int64, count int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.present, x.held, len(x.entries)
}
