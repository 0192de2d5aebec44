package blobcache

import (
	"fmt"
	"time"

	"hostlocal/manifest"
)

// ErrSuspect is wrapped by the error of a Get that does not begin at the first byte of a
// blob whose bytes were wrong moments ago: a right tail would be glued to a wrong beginning.
var ErrSuspect = fmt.Errorf("%w moments ago: ask for it from its first byte", manifest.ErrMismatch)

type suspect struct {
	until  time.Time
	source string
}

// suspect remembers a mismatch for a while, and tells of it.
func (c *Cache) suspect(d manifest.Digest, source string) {
	c.avoid(d, source)
	if c.opt.OnMismatch != nil {
		c.opt.OnMismatch(d, source)
	}
}

// avoid has the next attempt at d begin with another source than this one.
func (c *Cache) avoid(d manifest.Digest, source string) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, s := range c.suspects {
		if now.After(s.until) {
			delete(c.suspects, k)
		}
	}
	c.suspects[d] = suspect{now.Add(suspicion), source}
}

// clear forgets a suspicion: all of the blob has matched since.
func (c *Cache) clear(d manifest.Digest) {
	c.mu.Lock()
	delete(c.suspects, d)
	c.mu.Unlock()
}
