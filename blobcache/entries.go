package blobcache

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"time"

	"hostlocal/manifest"
)

// An entry is what the index knows of one file under blobs/. A cache may have
// 200,000 of them, so it has no pointers, which the collector would follow, and 48
// bytes, which is one of the allocator's sizes.
type entry struct {
	sum   [32]byte // the digest's, or its beginning where that is longer
	word  uint64   // the sectors that the file takes on the disk, and above them the flags
	seen  uint32   // the last look that counted, in seconds of the clock's low bits
	holds int32    // readers, and one for all pins: while there are any the file stays
}

// The flags of an entry. Two of them are the number of its queue, 0 for none.
const (
	flags = 58 // where they begin in word: 2⁵⁸ sectors are more than any disk has

	flagQueue uint64 = 3 << flags
	flagHot   uint64 = 4 << flags  // looked at again since it was queued
	flagGone  uint64 = 8 << flags  // its file has no name any more; counts until the last hold ends
	flagOld   uint64 = 16 << flags // found by the scan at start, so part of the mark it stands in for
)

const sector = 512 // bytes; stat counts a file's blocks in these everywhere on Linux

func (e *entry) blocks() int64       { return int64(e.word&(1<<flags-1)) * sector }
func (e *entry) is(flag uint64) bool { return e.word&flag != 0 }
func (e *entry) set(flag uint64)     { e.word |= flag }
func (e *entry) clear(flag uint64)   { e.word &^= flag }
func (e *entry) queue() int          { return int(e.word & flagQueue >> flags) }
func (e *entry) enqueue(n int)       { e.word = e.word&^flagQueue | uint64(n)<<flags }

// look notes a look at the file, and reports whether it counts as one of its own.
func (e *entry) look(now time.Time) bool {
	seen := uint32(now.Unix())
	if seen-e.seen <= uint32(correlated/time.Second) {
		return false
	}
	e.seen = seen
	return true
}

// sumOf is what an entry keeps of a digest: of a sha256 all.
func sumOf(d manifest.Digest) (sum [32]byte) {
	text := d.Hex()
	for i := 0; i < len(sum); i += 8 {
		bits, err := strconv.ParseUint(text[2*i:2*i+16], 16, 64)
		if err != nil {
			panic(err) // a digest in hand is valid
		}
		binary.BigEndian.PutUint64(sum[i:], bits)
	}
	return sum
}

func firstBits(sum [32]byte) uint64 { return binary.BigEndian.Uint64(sum[:]) }

// entries are found by their digest. A map by whole digests would take twice the
// room, so the first 64 bits of a sha256 do, which are as good as random: those who
// make up digests whose first 64 bits agree find them among the rest.
type entries struct {
	first map[uint64]*entry
	// rest has what first cannot: digests of other lengths, and those whose first
	// bits are another's already. rests says which they are.
	rest  map[manifest.Digest]*entry
	rests map[*entry]manifest.Digest
}

func newEntries() entries {
	return entries{make(map[uint64]*entry), make(map[manifest.Digest]*entry), make(map[*entry]manifest.Digest)}
}

// get returns the entry of d, nil if there is none.
func (s *entries) get(d manifest.Digest) *entry {
	if d.Algorithm() == manifest.SHA256 {
		sum := sumOf(d)
		if e := s.first[firstBits(sum)]; e != nil && e.sum == sum {
			return e
		}
	}
	return s.rest[d]
}

// add makes an entry of d, of which there is none.
func (s *entries) add(d manifest.Digest, blocks int64, now time.Time) *entry {
	e := &entry{sum: sumOf(d), word: uint64(blocks / sector), seen: uint32(now.Unix())}
	s.put(d, e)
	return e
}

// put makes e the entry of d, of which there is none.
func (s *entries) put(d manifest.Digest, e *entry) {
	if bits := firstBits(e.sum); d.Algorithm() == manifest.SHA256 && s.first[bits] == nil {
		s.first[bits] = e
		return
	}
	s.rest[d], s.rests[e] = e, d
}

// remove takes e out, if it is in.
func (s *entries) remove(e *entry) {
	if bits := firstBits(e.sum); s.first[bits] == e {
		delete(s.first, bits)
	} else if d, ok := s.rests[e]; ok {
		delete(s.rest, d)
		delete(s.rests, e)
	}
}

// digest returns whose entry e is, which is in.
func (s *entries) digest(e *entry) manifest.Digest {
	if d, ok := s.rests[e]; ok {
		return d
	}
	return manifest.MustDigest(string(manifest.SHA256) + ":" + hex.EncodeToString(e.sum[:]))
}

func (s *entries) len() int { return len(s.first) + len(s.rest) }
