package blobcache

import "slices"

// A span is the bytes [off, end) of a blob.
type span struct{ off, end int64 }

func (s span) len() int64 { return s.end - s.off }

// spans is a set of bytes, kept as sorted spans that neither overlap nor touch.
// A fill has a handful of fetches under way, so the set has a handful of spans
// and walking it is as good as any tree. The zero value is the empty set.
type spans []span

// add puts [off, end) into the set.
func (s *spans) add(off, end int64) {
	if off >= end {
		return
	}
	i := s.search(off)
	if i > 0 && (*s)[i-1].end == off {
		i-- // it touches the one before
	}
	j := i
	for j < len(*s) && (*s)[j].off <= end {
		off, end = min(off, (*s)[j].off), max(end, (*s)[j].end)
		j++
	}
	*s = slices.Replace(*s, i, j, span{off, end})
}

// search returns the index of the first span that ends behind off.
func (s spans) search(off int64) int {
	for i := range s {
		if s[i].end > off {
			return i
		}
	}
	return len(s)
}

// until returns where the unbroken bytes that begin at off end: off itself if the
// byte at off is not in the set.
func (s spans) until(off int64) int64 {
	if i := s.search(off); i < len(s) && s[i].off <= off {
		return s[i].end
	}
	return off
}

// gap returns the first bytes at or behind off, and before limit, that are not in
// the set; an empty span if there are none.
func (s spans) gap(off, limit int64) span {
	off = s.until(off)
	if off >= limit {
		return span{limit, limit}
	}
	if i := s.search(off); i < len(s) {
		limit = min(limit, s[i].off)
	}
	return span{off, limit}
}

// sum is the number of bytes in the set.
func (s spans) sum() (n int64) {
	for _, sp := range s {
		n += sp.len()
	}
	return n
}
