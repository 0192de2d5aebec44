package blobcache

import (
	"math"
)

const (
	// near is how far ahead of a fetch a reader may wait and still be served by
	// it. A request of its own costs a round trip, in which a fetch brings about
	// this much.
	near = 1 << 20

	// urgent is how many fetches may run beyond the source's plan for readers that
	// wait far from everything under way.
	urgent = 4

	// rangedPart is what is asked for at a time when the readers come with ranges
	// themselves: containerd's are 8 MiB, and a fetch that is bounded there never has
	// to be broken off because the next range has it already.
	rangedPart = 8 << 20

	// leastPart is the first and the last part of a blob that takes more parts than
	// may be under way at once, and partGrowth how slowly they grow between: by
	// one byte in so many. See terms.at.
	leastPart  = 4 << 20
	partGrowth = 8

	// roomStep is how much room a fetch takes at a time: evictions happen as bytes
	// land, not when somebody says that they will.
	roomStep = 8 << 20

	// firstRoom is what it takes before its first bytes: so little is not allocated
	// ahead, which on a file system in memory means to clear it, milliseconds in which
	// a reader waits.
	firstRoom = near / 2

	// bodies is how many bodies are read at once on this host, and so how many
	// copy buffers there are: 64 of 256 KiB make 16 MiB.
	bodies     = 64
	bufferSize = 256 << 10
)

// A claim is the bytes [pos, end) that one fetch is to bring. Claims do not
// overlap, so no byte is asked for twice and no landed byte is written again. end
// shrinks when a reader waits far ahead and gets a fetch of its own. The fill's
// mu guards it.
type claim struct {
	pos, end int64 // end is math.MaxInt64 while the size is unknown
	busy     int64 // [pos, busy) is being written: end does not shrink below it
	logged   int64 // up to where the map has it
	brought  int64 // bytes that landed and had not before
	whole    bool  // asks for all that follows, and ends where the blob does
	first    bool  // asked for before any source had answered
}

// terms are how the source in use likes to be asked.
type terms struct {
	part     int64 // bytes at a time
	parallel int   // requests in flight
	planned  bool  // by the source itself, a Planner
	all      bool  // one request for everything: it serves no ranges
	choosing bool  // it may turn out to be another one
}

func (f *fill) terms() terms {
	f.mu.Lock()
	size := f.size
	f.mu.Unlock()
	t := terms{part: math.MaxInt64, parallel: 1, all: f.opener.rangeless(), choosing: f.opener.choosing()}
	if p, ok := f.opener.source().(Planner); ok {
		t.part, t.parallel = p.Plan(size)
		t.planned = true
	}
	if f.want.Ranged {
		t.part = min(t.part, rangedPart)
	}
	t.part, t.parallel = max(t.part, near), max(t.parallel, 1)
	return t
}

// at returns how much to ask for at off. Parts of one size that begin together end
// together: the hash, which takes bytes in their order, is idle at first and then
// has half of the blob to go through after the last byte has come. So they begin
// small, and end small. With 16 under way, 30 ms to the first byte and 85 MiB/s
// each, 512 MiB take 0.55 s until they are hashed, in place of 0.62.
func (t terms) at(off, size int64) int64 {
	if !t.planned || size/int64(t.parallel) <= t.part {
		return t.part
	}
	growing, shrinking := leastPart+off/partGrowth, max(leastPart, (size-off)/int64(t.parallel))
	return min(t.part, growing, shrinking) &^ (near - 1)
}

// plan returns the next claim to fetch, nil if what runs is enough. The caller
// holds mu.
func (f *fill) plan(t terms) *claim {
	part, parallel := t.part, t.parallel
	switch {
	case f.fatal != nil, f.said && f.landed.until(0) == f.size:
		return nil
	case len(f.claims) > 0 && t.choosing:
		// The store may not have the blob: that should cost one miss, and the
		// upstream, which is asked next, is to get one request for it.
		return nil
	case f.size < 0 && t.planned && !t.all:
		if len(f.claims) > 0 {
			return nil
		}
		return &claim{end: part, first: true} // its answer says how long the blob is
	case f.size < 0:
		if len(f.claims) > 0 {
			return nil
		}
		at := f.landed.until(0)
		return &claim{pos: at, end: math.MaxInt64, busy: at, logged: at, whole: true}
	case t.all:
		if len(f.claims) > 0 {
			return nil
		}
		return &claim{end: f.size, whole: true}
	}
	if len(f.claims) == 0 && !f.said {
		if gap := f.gap(f.want.Offset); gap.len() > 0 {
			cl := f.claim(gap, t.at(gap.off, f.size))
			cl.first = true
			return cl
		}
	}
	if len(f.claims) < parallel+urgent {
		for _, off := range f.waiting {
			if gap := f.gapFor(off); gap.len() > 0 {
				return f.claim(gap, part)
			}
		}
	}
	if len(f.claims) < parallel {
		gap := f.gap(0)
		return f.claim(gap, t.at(gap.off, f.size))
	}
	return nil
}

func (f *fill) claim(gap span, part int64) *claim {
	if gap.len() == 0 {
		return nil
	}
	end := gap.end
	if gap.len() > part {
		end = gap.off + part
	}
	return &claim{pos: gap.off, end: end, busy: gap.off, logged: gap.off, whole: gap.off == 0 && end == f.size}
}

// gap returns the first bytes from off on that neither landed nor are claimed.
func (f *fill) gap(off int64) span {
	gap := f.landed.gap(off, f.size)
	for again := true; again; {
		again = false
		for _, cl := range f.claims {
			if cl.pos <= gap.off && gap.off < cl.end {
				gap, again = f.landed.gap(cl.end, f.size), true
			}
		}
	}
	for _, cl := range f.claims {
		if gap.off < cl.pos {
			gap.end = min(gap.end, cl.pos)
		}
	}
	return gap
}

// reach returns how far a claim can go before it meets another, or what has landed.
func (f *fill) reach(cl *claim) int64 {
	end := int64(math.MaxInt64)
	if f.size >= 0 {
		end = f.landed.gap(cl.pos, f.size).end
	}
	for _, other := range f.claims {
		if other.pos > cl.pos {
			end = min(end, other.pos)
		}
	}
	return max(end, cl.busy)
}

// gapFor returns what to fetch for a reader that waits for the byte at off:
// nothing if a fetch is about to bring it. A fetch that has it far ahead gives it
// up.
func (f *fill) gapFor(off int64) span {
	if f.landed.until(off) > off || off >= f.size {
		return span{}
	}
	for _, cl := range f.claims {
		if off < cl.pos || off >= cl.end {
			continue
		}
		if off-cl.busy <= near {
			return span{}
		}
		gap := span{off, cl.end}
		cl.end, cl.whole = off, false
		return gap
	}
	return f.gap(off)
}
