package blobcache

import (
	"hash/maphash"

	"hostlocal/manifest"
)

// shelf is what the index knows of the files that an earlier process left and that
// nobody has asked for since: how many, and what each takes. They are in no order, so
// they need no queue; which of them goes next is for the folders to say, which have
// their names. The first look at one makes an entry of it.
//
// It costs some 20 bytes a file, and nothing to collect: a host has very many more
// files than it looks at between two starts.
type shelf struct {
	// files are by a hash that nobody outside can aim at. Of two digests that share
	// it, once in 10¹³ hosts of a million files, one is not counted.
	files map[uint64]uint64 // sectors, and in the lowest bit whether the blob is small
	seed  maphash.Seed
	small int64 // bytes of the small ones
	large int64 // bytes of the others
}

func newShelf() shelf { return shelf{files: make(map[uint64]uint64), seed: maphash.MakeSeed()} }

func (s *shelf) key(d manifest.Digest) uint64 { return maphash.String(s.seed, d.String()) }

func (s *shelf) has(d manifest.Digest) bool {
	_, ok := s.files[s.key(d)]
	return ok
}

// add puts a file that is not there yet on the shelf.
func (s *shelf) add(d manifest.Digest, small bool, blocks int64) {
	word := uint64(blocks/sector) << 1
	if small {
		word |= 1
	}
	s.files[s.key(d)] = word
	s.count(small, blocks)
}

// take takes d off the shelf if it is there. It returns the bytes that it was counted
// with.
func (s *shelf) take(d manifest.Digest) (blocks int64) {
	key := s.key(d)
	word, ok := s.files[key]
	if !ok {
		return 0
	}
	delete(s.files, key)
	blocks = int64(word>>1) * sector
	s.count(word&1 != 0, -blocks)
	return blocks
}

// isSmall reports whether d is on the shelf and small.
func (s *shelf) isSmall(d manifest.Digest) bool { return s.files[s.key(d)]&1 != 0 }

// clear takes all small files, or all others, off the shelf and returns their bytes.
func (s *shelf) clear(small bool) (blocks int64) {
	for key, word := range s.files {
		if word&1 != 0 == small {
			delete(s.files, key)
			blocks += int64(word>>1) * sector
		}
	}
	s.count(small, -blocks)
	return blocks
}

func (s *shelf) count(small bool, blocks int64) {
	if small {
		s.small += blocks
	} else {
		s.large += blocks
	}
}

// found counts a file that the scan came to.
func (x *index) found(d manifest.Digest, size, blocks int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.entries.get(d) != nil || x.shelf.has(d) {
		return
	}
	x.shelf.add(d, size < smallBlob, blocks)
	x.present += blocks
	x.scanned += blocks
}

// unshelved takes d off the shelf if it is there. It returns the bytes that it was
// counted with.
func (x *index) unshelved(d manifest.Digest) (blocks int64) {
	blocks = x.shelf.take(d)
	x.present -= blocks
	return blocks
}

// unshelve takes d off the shelf, to go, if it is there and small, or there and large.
// It returns an entry that the index does not have; nil if d stays.
func (x *index) unshelve(d manifest.Digest, small bool) *entry {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.shelf.has(d) || x.shelf.isSmall(d) != small {
		return nil
	}
	e := &entry{sum: sumOf(d), word: uint64(x.unshelved(d) / sector)}
	if !small {
		x.ghosts.Add(firstBits(e.sum), struct{}{})
	}
	return e
}

// clearShelf forgets the small files on the shelf, or the others, because they are not
// there any more. It returns the bytes that are free by that.
func (x *index) clearShelf(small bool) (freed int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	freed = x.shelf.clear(small)
	x.present -= freed
	return freed
}
