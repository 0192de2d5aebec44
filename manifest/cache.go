package manifest

import (
	"math"
	"sync"
	"unsafe"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// largestShare is the part of a Cache that one manifest may take, 1/8: a few
// crafted manifests of 4 MiB must not push out the thousands of 2 KiB that a host
// lives on. A larger one is parsed again each time.
const largestShare = 8

// Cache keeps parsed manifests within a bound of bytes, the most recently used
// ones. It is memory alone: losing it costs a file read and a parse. It is safe
// for use by many.
type Cache struct {
	max int64

	mu   sync.Mutex // guards what follows; held for map operations only
	lru  *simplelru.LRU[Digest, *Manifest]
	used int64 // sum of cost over lru
}

// NewCache returns a cache of at most maxBytes; with maxBytes <= 0 it keeps
// nothing.
func NewCache(maxBytes int64) *Cache {
	c := &Cache{max: maxBytes}
	// The count is out of reach: bytes are the bound.
	lru, err := simplelru.NewLRU(math.MaxInt, func(_ Digest, m *Manifest) { c.used -= m.cost() })
	if err != nil {
		panic(err) // it refuses only a size below 1
	}
	c.lru = lru
	return c
}

// Get returns the manifest that was added under d.
func (c *Cache) Get(d Digest) (*Manifest, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lru.Get(d)
}

// Add keeps m under its digest, at the price of the least recently used ones. One
// that would take more than an eighth of the cache is not kept.
func (c *Cache) Add(m *Manifest) {
	cost := m.cost()
	if cost > c.max/largestShare {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lru.Contains(m.Digest) {
		c.lru.Get(m.Digest) // now the most recently used one
		return
	}
	c.lru.Add(m.Digest, m)
	for c.used += cost; c.used > c.max; {
		c.lru.RemoveOldest()
	}
}

// Remove forgets d.
func (c *Cache) Remove(d Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.Remove(d)
}

// Used returns the bytes that the cache accounts for.
func (c *Cache) Used() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// entryOverhead is what an entry takes besides m's content, in bytes: the
// Manifest, its digest, and the list element and map slot of the queue.
const entryOverhead = int64(unsafe.Sizeof(Manifest{})) + 400

// cost is what keeping m takes, in bytes: the body, the strings parsed out of it,
// which are together no longer than it, and the descriptors.
func (m *Manifest) cost() int64 {
	n := int64(len(m.Layers) + len(m.Manifests) + 2)
	return entryOverhead + 2*int64(len(m.Body)) + n*int64(unsafe.Sizeof(Descriptor{})+unsafe.Sizeof(Platform{}))
}
