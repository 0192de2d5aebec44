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

// entryOverhead is what an entry takes besides what it lists, in bytes: the
// Manifest, the document that it was read from, its digest, and the list element
// and map slot of the queue.
const entryOverhead = int64(unsafe.Sizeof(Manifest{})+unsafe.Sizeof(document{})) + 500

// cost is what keeping m takes, in bytes: the body, the strings parsed out of it,
// which are together no longer than it, the descriptors and the maps.
func (m *Manifest) cost() int64 {
	n := entryOverhead + int64(cap(m.Body)+len(m.Body)) + mapCost(m.Annotations)
	for _, list := range [][]Descriptor{m.Layers, m.Manifests} {
		n += int64(cap(list)) * int64(unsafe.Sizeof(Descriptor{}))
		for i := range list {
			n += list[i].partsCost()
		}
	}
	for _, d := range []*Descriptor{m.Config, m.Subject} {
		if d != nil {
			n += d.partsCost()
		}
	}
	return n
}

// partsCost is what a descriptor points to, but for the strings. Config and
// Subject lie within one allocation that entryOverhead stands for.
func (d *Descriptor) partsCost() int64 {
	n := mapCost(d.Annotations) + int64(len(d.URLs))*16
	if d.Platform != nil {
		n += int64(unsafe.Sizeof(*d.Platform)) + int64(len(d.Platform.OSFeatures))*16
	}
	return n
}

// mapCost is what a map takes but for the strings: groups of eight slots of two
// string headers, more than half of them empty at worst, and short strings that are
// rounded up.
func mapCost(m map[string]string) int64 {
	if m == nil {
		return 0
	}
	return 350 + 120*int64(len(m))
}
