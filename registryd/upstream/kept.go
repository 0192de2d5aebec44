package upstream

import (
	"sync"
	"time"

	"hostlocal/manifest"
)

const (
	// keptAge is how long a manifest waits for the GET that follows a HEAD: clients
	// send it within milliseconds, slow ones within seconds.
	keptAge = 15 * time.Second
	// keptBytes bounds what waits; two manifests of the largest size, or thousands
	// of usual ones.
	keptBytes = 2 * manifest.MaxSize
)

// keptBodies are manifests that were fetched because a HEAD was not to be had. The
// oldest goes when there is no room.
type keptBodies struct {
	mu    sync.Mutex // guards what follows
	queue []kept     // in the order of their arrival
	bytes int
}

type kept struct {
	repo      string
	digest    manifest.Digest
	mediaType string
	body      []byte
	until     time.Time
}

func newKeptBodies() *keptBodies { return &keptBodies{} }

func (k *keptBodies) add(repo string, d manifest.Digest, mediaType string, body []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	k.queue = append(k.queue, kept{repo, d, mediaType, body, now.Add(keptAge)})
	k.bytes += len(body)
	for k.bytes > keptBytes || k.queue[0].until.Before(now) {
		k.bytes -= len(k.queue[0].body)
		k.queue[0] = kept{}
		k.queue = k.queue[1:]
	}
}

func (k *keptBodies) get(repo string, d manifest.Digest) (body []byte, mediaType string, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for i := len(k.queue) - 1; i >= 0 && now.Before(k.queue[i].until); i-- {
		if e := k.queue[i]; e.repo == repo && e.digest == d {
			return e.body, e.mediaType, true
		}
	}
	return nil, "", false
}
