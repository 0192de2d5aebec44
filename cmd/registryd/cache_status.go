package main

import (
	"fmt"

	"hostlocal/blobcache"
)

// cacheStatus is the cache's part of the status.
type cacheStatus struct{ blobcache.Stats }

// show writes it for a person, line by line.
func (c cacheStatus) show(line func(what, format string, args ...any)) {
	count := fmt.Sprintf("%d blobs", c.Blobs)
	if !c.Scanned {
		count = "still being counted"
	}
	line("cache", "%s of %s, %s, in %s", bytesText(c.Bytes), bytesText(c.Budget), count, c.Dir)
	for _, part := range []struct {
		what string
		n    int64
	}{{"pinned or being read", c.Pinned}, {"evicted since the start", c.Evicted}} {
		if part.n > 0 {
			line("", "%s %s", bytesText(part.n), part.what)
		}
	}
	if c.Damaged > 0 {
		line("", "%d files were damaged or gone, and are fetched again on use", c.Damaged)
	}
	if c.Passed > 0 {
		line("", "%d answers passed through uncached: no room, or the disk failed", c.Passed)
	}
	if c.Uploads > 0 {
		line("pushes", "%d blobs are on their way or were broken off, %s of them here", c.Uploads, bytesText(c.Uploaded))
	}
	line("fills", "%d under way", len(c.Fills))
	for _, f := range c.Fills {
		size := "unknown size"
		if f.Size >= 0 {
			size = bytesText(f.Size)
		}
		line("", "%s: %s of %s, from %s, %d readers", f.Digest, bytesText(f.Landed), size, f.Source, f.Readers)
	}
}
