package blobcache

import (
	"time"

	"hostlocal/manifest"
)

type suspect struct {
	until  time.Time
	source string
}

// suspect remembers a mismatch for a while.
func (c *Cache) suspect(d manifest.Digest, source string) {
	now := time.Now()
	c.mu.Lock()
	for k, s := range c.suspects {
		if now.After(s.until) {
			delete(c.suspects, k)
		}
	}
	c.suspects[d] = suspect{now.Add(suspicion), source}
	c.mu.Unlock()
	if c.opt.OnMismatch != nil {
		c.opt.OnMismatch(d, source)
	}
}

// clear forgets a suspicion: all of the blob has matched since.
func (c *Cache) clear(d manifest.Digest) {
	c.mu.Lock()
	delete(c.suspects, d)
	c.mu.Unlock()
}
