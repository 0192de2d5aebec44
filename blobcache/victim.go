package blobcache

import "hostlocal/manifest"

const (
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
)

// victims are where the next file to go is to be taken from.
type victims int

const (
	none   victims = iota
	queued         // taken from a queue already
	shelvedSmall
	shelvedLarge
)

// victim decides what is to go next, given the budget in bytes. Of a queue it takes
// the entry out; the caller unlinks d's file and only then counts the bytes as free.
// What is on the shelf has been looked at by nobody, and so is older than any entry of
// its kind.
func (x *index) victim(budget int64) (from victims, d manifest.Digest, e *entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	q := &x.queues
	if q[smallQueue].bytes+x.shelf.small > budget/smallShare {
		if x.shelf.small > 0 {
			return shelvedSmall, d, nil
		}
		e = q[smallQueue].oldest(q[smallQueue])
	}
	if e == nil && (q[probationQueue].bytes+x.shelf.large > budget/probationShare || q[protectedQueue].lru.Len() == 0) {
		if x.shelf.large > 0 {
			return shelvedLarge, d, nil
		}
		if e = q[probationQueue].oldest(q[protectedQueue]); e != nil {
			x.ghosts.Add(firstBits(e.sum), struct{}{})
		}
	}
	for n := 1; e == nil && n < afterQueues; n++ {
		switch {
		case n == probationQueue && x.shelf.large > 0:
			return shelvedLarge, d, nil
		case n == smallQueue && x.shelf.small > 0:
			return shelvedSmall, d, nil
		}
		if e = q[n].oldest(q[n]); e == nil { // that round may only have cleared the marks of recent looks
			e = q[n].oldest(q[n])
		}
	}
	if e == nil {
		return none, d, nil
	}
	d = x.entries.digest(e)
	x.drop(e)
	return queued, d, e
}

// putBack undoes victim, for a file that could not be removed.
func (x *index) putBack(d manifest.Digest, e *entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.entries.get(d) != nil || x.shelf.has(d) {
		return
	}
	x.entries.put(d, e)
	x.present += e.blocks()
	x.queues[probationQueue].push(e)
}
