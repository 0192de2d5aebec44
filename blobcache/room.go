package blobcache

import (
	"math"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// scraps are the files that go first when room is needed: what failed fills left
// behind, which saves a later fill some bytes, and quarantine, which only a person
// may want to see.
type scraps struct {
	mu  sync.Mutex // guards lru
	lru *simplelru.LRU[string, int64]
}

func newScraps() *scraps {
	lru, err := simplelru.NewLRU[string, int64](math.MaxInt, nil)
	if err != nil {
		panic(err) // only a size below one is refused
	}
	return &scraps{lru: lru}
}

func (s *scraps) add(path string, blocks int64) {
	s.mu.Lock()
	s.lru.Add(path, blocks)
	s.mu.Unlock()
}

// claim takes path out, for a fill that goes on with it or for its removal: one of
// them gets it. It returns the bytes that the ledger has for it.
func (s *scraps) claim(path string) (blocks int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	blocks, ok = s.lru.Peek(path)
	s.lru.Remove(path)
	return blocks, ok
}

func (s *scraps) oldest() (path string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path, _, ok = s.lru.GetOldest()
	return path, ok
}

// evictOne removes the file that is to go next. The ledger calls it, one call at
// a time; ok is false when nothing may go.
func (c *Cache) evictOne() (freed int64, ok bool) {
	if path, ok := c.scraps.oldest(); ok {
		return c.evictScrap(path)
	}
	if freed, ok := c.evictUpload(); ok {
		return freed, true
	}
	from, d, e := c.index.victim(c.ledger.budget)
	if from == shelvedSmall || from == shelvedLarge {
		if d, e, freed, ok = c.takeFromShelf(from == shelvedSmall); e == nil {
			return freed, ok
		}
	}
	if e == nil {
		return 0, false
	}
	defer c.places.lock(d)()
	if c.index.knows(d) {
		return e.blocks(), true // somebody came for it in between, and entered it anew
	}
	c.memory.remove(d)
	if err := os.Remove(c.blobPath(d)); err != nil && !os.IsNotExist(err) {
		c.index.putBack(d, e)
		if c.stats.shouldSay() {
			c.log.Error("blobcache: cannot evict", "digest", d, "err", err)
		}
		return 0, false
	}
	c.stats.evicted.Add(e.blocks())
	return e.blocks(), true
}

// evictScrap removes a scrap, unless a fill has gone on with it in between. Of a
// failed fill there may be readers left, who cannot end well any more: emptied, it
// takes no room in spite of them.
func (c *Cache) evictScrap(path string) (freed int64, ok bool) {
	if d, ok := parsePartialName(filepath.Base(path)); ok {
		defer c.places.lock(d)()
	}
	blocks, ok := c.scraps.claim(path)
	if !ok {
		return 0, true
	}
	if fi, err := os.Lstat(path); err == nil && fi.Mode().IsRegular() && filepath.Base(filepath.Dir(path)) == partialDir {
		_ = os.Truncate(path, 0)
	}
	if err := os.RemoveAll(path); err != nil {
		c.scraps.add(path, blocks)
		return 0, false
	}
	os.Remove(path + mapSuffix)
	return blocks, true
}

// dirs counts what the folders themselves take: du does, and 256 of them make a
// MiB before the first blob is in.
type dirs struct {
	ledger *ledger
	mu     sync.Mutex // guards blocks
	blocks map[string]int64
}

// grown counts what dir takes now.
func (s *dirs) grown(dir string) {
	if delta := s.measure(dir); delta != 0 {
		s.ledger.addFixed(delta)
	}
}

// measure returns by how much dir has changed since it was last measured.
func (s *dirs) measure(dir string) (delta int64) {
	fi, err := os.Stat(dir)
	if err != nil {
		return 0
	}
	now := blocksOf(fi)
	s.mu.Lock()
	defer s.mu.Unlock()
	delta = now - s.blocks[dir]
	s.blocks[dir] = now
	return delta
}
