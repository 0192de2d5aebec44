package blobcache

import (
	"sync"
	"sync/atomic"
	"time"

	"hostlocal/manifest"
)

// sayEvery is how often at most the log hears that blobs pass through: a full disk
// lasts for hours, and one line a minute says it.
const sayEvery = time.Minute

// stats counts what the cache does.
type stats struct {
	evicted  atomic.Int64
	damaged  atomic.Int64
	passed   atomic.Int64
	scrubbed atomic.Int64
	scanned  atomic.Bool
	fill     func(source, result string)

	mu   sync.Mutex // guards said
	said time.Time
}

func (s *stats) shouldSay() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.said) < sayEvery {
		return false
	}
	s.said = time.Now()
	return true
}

// Stats is what the cache knows of itself. Sizes are bytes.
type Stats struct {
	Dir      string `json:"dir"`
	Bytes    int64  `json:"bytes"`    // what the folder takes, in allocated blocks
	Budget   int64  `json:"budget"`   // what it may take
	Pinned   int64  `json:"pinned"`   // of Bytes: blobs that are pinned or being read
	Promised int64  `json:"promised"` // what running fills may still take
	Blobs    int    `json:"blobs"`    // complete ones that the index knows
	Scanned  bool   `json:"scanned"`  // the scan at start is done: Bytes and Blobs are exact
	Evicted  int64  `json:"evicted"`  // bytes, since start
	Damaged  int64  `json:"damaged"`  // files that were wrong or gone, since start
	Passed   int64  `json:"passed"`   // answers that passed through uncached, since start
	Scrubbed int64  `json:"scrubbed"` // bytes read in search of rot, since start
	Uploads  int    `json:"uploads"`  // blobs that are being sent to this host, or were broken off
	Uploaded int64  `json:"uploaded"` // of Bytes: what those take
	Fills    []Fill `json:"fills"`    // those running now
}

// Fill is one running fill. Sizes are bytes.
type Fill struct {
	Digest  manifest.Digest `json:"digest"`
	Origin  string          `json:"origin"`
	Source  string          `json:"source"`
	Size    int64           `json:"size"` // -1 unknown
	Landed  int64           `json:"landed"`
	Readers int             `json:"readers"`
}

// Stats returns the figures of this moment.
func (c *Cache) Stats() Stats {
	used, _, promised := c.ledger.sums()
	_, held, n := c.index.sums()
	s := Stats{
		Dir: c.dir, Bytes: used, Budget: c.opt.Budget, Pinned: held, Promised: promised, Blobs: n,
		Scanned: c.stats.scanned.Load(), Evicted: c.stats.evicted.Load(), Damaged: c.stats.damaged.Load(),
		Passed: c.stats.passed.Load(), Scrubbed: c.stats.scrubbed.Load(),
	}
	s.Uploads, s.Uploaded = c.uploads.sums()
	c.mu.Lock()
	running := make([]*fill, 0, len(c.fills))
	for _, f := range c.fills {
		running = append(running, f)
	}
	c.mu.Unlock()
	for _, f := range running {
		source := f.opener.name()
		f.mu.Lock()
		s.Fills = append(s.Fills, Fill{f.digest, f.want.Origin, source, f.size, f.landed.sum(), f.readers})
		f.mu.Unlock()
	}
	return s
}
