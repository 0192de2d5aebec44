package blobcache

import (
	"context"
	"fmt"
	"io/fs"

	"hostlocal/manifest"
)

// Join returns the blob from this disk or joins the fill that is running; it
// starts none, so it asks no source on its own account. An error wraps
// fs.ErrNotExist if there is neither. It is for those who pass on what others
// fetched.
func (c *Cache) Join(ctx context.Context, d manifest.Digest) (*Blob, error) {
	if b, err := c.Open(d); err == nil {
		return b, nil
	}
	c.mu.Lock()
	f, late := c.fills[d], false
	if f != nil {
		var ok bool
		if late, ok = f.join(); !ok {
			f = nil
		}
	}
	c.mu.Unlock()
	if f == nil {
		// It may have been published between the two looks.
		return c.Open(d)
	}
	b, err := c.follow(ctx, &Blob{c: c, digest: d, want: Want{Size: -1}, fill: f, late: late})
	if err != nil {
		if b, err := c.Open(d); err == nil {
			return b, nil
		}
		return nil, fmt.Errorf("joining the fill of %s: %w (%w)", d, fs.ErrNotExist, err)
	}
	return b, nil
}
