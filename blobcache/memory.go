package blobcache

import (
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"hostlocal/manifest"
)

const (
	// memoryBlob is the largest blob that is also kept in memory. Up to this size
	// opening a file costs more than sending it.
	memoryBlob = 64 << 10

	// memoryBytes bounds all of them together. The configs and empty layers of a
	// host's images are a few MiB; more would only push page cache out.
	memoryBytes = 16 << 20

	// memoryEntry is what remembering one takes besides its bytes, near enough: blobs
	// of a few bytes would be a hundred thousand otherwise.
	memoryEntry = 512
)

// memory keeps the bytes of small blobs that were hit, least recently used out
// first.
type memory struct {
	mu    sync.Mutex // guards the fields below
	lru   *simplelru.LRU[manifest.Digest, []byte]
	bytes int
}

func newMemory() *memory {
	m := &memory{}
	lru, err := simplelru.NewLRU(math.MaxInt, func(_ manifest.Digest, b []byte) { m.bytes -= len(b) + memoryEntry })
	if err != nil {
		panic(err) // only a size below one is refused
	}
	m.lru = lru
	return m
}

func (m *memory) get(d manifest.Digest) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, _ := m.lru.Get(d)
	return b
}

func (m *memory) add(d manifest.Digest, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lru.Remove(d)
	m.lru.Add(d, b)
	m.bytes += len(b) + memoryEntry
	for m.bytes > memoryBytes {
		m.lru.RemoveOldest()
	}
}

func (m *memory) remove(d manifest.Digest) {
	m.mu.Lock()
	m.lru.Remove(d)
	m.mu.Unlock()
}
