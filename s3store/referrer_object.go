package s3store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"hostlocal/manifest"
)

// errReferrer says that an object among the referrers is none.
var errReferrer = errors.New("not a referrer's descriptor")

// encodeReferrer makes the object of a referrer: its OCI descriptor. Annotations that
// would make it larger than a manifest are left out: only bytes that JSON must
// escape, as U+2028, get it there, since they come from a manifest themselves.
func encodeReferrer(desc manifest.Descriptor) ([]byte, error) {
	desc = listed(desc)
	body, err := marshal(desc)
	if err == nil && len(body) > manifest.MaxSize {
		desc.Annotations = nil
		body, err = marshal(desc)
	}
	if err == nil && len(body) > manifest.MaxSize {
		err = errTooLarge // by its artifact type
	}
	return body, err
}

func marshal(desc manifest.Descriptor) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // six bytes for one
	err := e.Encode(desc)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// parseReferrer reads the object of the referrer d. The error wraps errReferrer.
func parseReferrer(d manifest.Digest, body []byte) (manifest.Descriptor, error) {
	var desc manifest.Descriptor
	if err := json.Unmarshal(body, &desc); err != nil {
		return manifest.Descriptor{}, fmt.Errorf("%w: %w", errReferrer, err)
	}
	if desc.Digest != d || desc.Size <= 0 || desc.Size > manifest.MaxSize || !desc.IsManifest() {
		return manifest.Descriptor{}, fmt.Errorf("%w: it names %s of %d bytes and type %.100q", errReferrer, desc.Digest, desc.Size, desc.MediaType)
	}
	return listed(desc), nil
}

// listed is what of a descriptor belongs into a list of referrers.
func listed(desc manifest.Descriptor) manifest.Descriptor {
	return manifest.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size,
		ArtifactType: desc.ArtifactType, Annotations: desc.Annotations}
}

// descriptorSize is what a descriptor takes in memory, about.
func descriptorSize(desc manifest.Descriptor) int64 {
	n := 300 + len(desc.ArtifactType)
	for k, v := range desc.Annotations {
		n += len(k) + len(v) + 64
	}
	return int64(n)
}

// descriptorCache keeps referrers' descriptors under the keys of their objects, the
// most recently used ones. They never change: a digest of the key is their
// manifest's.
type descriptorCache struct {
	mu   *sync.Mutex // guards the rest; held for map operations only
	lru  *simplelru.LRU[string, manifest.Descriptor]
	used *int64 // sum of cost over lru
	max  int64  // bytes
}

func newDescriptorCache(max int64) descriptorCache {
	c := descriptorCache{mu: new(sync.Mutex), used: new(int64), max: max}
	// The count is out of reach: bytes are the bound.
	c.lru, _ = simplelru.NewLRU(1<<30, func(key string, desc manifest.Descriptor) { *c.used -= c.cost(key, desc) })
	return c
}

func (c descriptorCache) cost(key string, desc manifest.Descriptor) int64 {
	return int64(len(key)) + descriptorSize(desc)
}

func (c descriptorCache) get(key string) (manifest.Descriptor, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lru.Get(key)
}

// add keeps a descriptor, unless it would take more than an eighth of the room.
func (c descriptorCache) add(key string, desc manifest.Descriptor) {
	cost := c.cost(key, desc)
	if cost > c.max/8 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lru.Contains(key) {
		return
	}
	c.lru.Add(key, desc)
	for *c.used += cost; *c.used > c.max; {
		c.lru.RemoveOldest()
	}
}
