package blobcache

import (
	"math"
	"os"
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

// claim takes path out, for a fill that goes on with it. It returns the bytes
// that the ledger has for it, 0 if it is not there.
func (s *scraps) claim(path string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	blocks, _ := s.lru.Peek(path)
	s.lru.Remove(path)
	return blocks
}

func (s *scraps) oldest() (path string, blocks int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lru.RemoveOldest()
}

// evictOne removes the file that is to go next. The ledger calls it, one call at
// a time; ok is false when nothing may go.
func (c *Cache) evictOne() (freed int64, ok bool) {
	if path, blocks, ok := c.scraps.oldest(); ok {
		os.Remove(path + mapSuffix)
		os.Remove(path)
		return blocks, true
	}
	e := c.index.victim(c.ledger.budget)
	if e == nil {
		return 0, false
	}
	c.memory.remove(e.digest)
	if err := os.Remove(c.blobPath(e.digest)); err != nil && !os.IsNotExist(err) {
		c.index.putBack(e)
		if c.stats.shouldSay() {
			c.log.Error("blobcache: cannot evict", "digest", e.digest, "err", err)
		}
		return 0, false
	}
	c.stats.evicted.Add(e.blocks)
	return e.blocks, true
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
