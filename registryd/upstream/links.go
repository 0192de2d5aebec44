package upstream

import (
	"net/url"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"hostlocal/manifest"
)

const (
	// linkAge is how long the place that an upstream sent us to is asked directly:
	// a blob's ranges follow each other within seconds, and signatures live for
	// minutes.
	linkAge = time.Minute
	// maxLinks bounds them; signed URLs take 2 KiB.
	maxLinks = 512
)

// links remembers where redirects ended, so that a blob in sixteen ranges costs the
// upstream one request. Only those who may ask the upstream for the blob in that
// repository meet its link.
type links struct {
	mu    sync.Mutex // guards known
	known *simplelru.LRU[linkKey, link]
}

type linkKey struct {
	repo   string
	digest manifest.Digest
}

type link struct {
	url   *url.URL
	until time.Time
}

func newLinks() *links {
	known, _ := simplelru.NewLRU[linkKey, link](maxLinks, nil)
	return &links{known: known}
}

func (l *links) get(k linkKey) *url.URL {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.known.Get(k); ok && time.Now().Before(e.until) {
		return e.url
	}
	return nil
}

func (l *links) add(k linkKey, u *url.URL) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known.Add(k, link{u, time.Now().Add(linkAge)})
}

// forget makes the next request for the blob ask the upstream again.
func (l *links) forget(k linkKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known.Remove(k)
}
