package registryd

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"hostlocal/manifest"
)

const (
	// maxReferrals bounds the lists of upstreams' referrers in memory, and
	// referralBytes what they take: most have none, or a signature and a bill of
	// materials.
	maxReferrals  = 8 << 10
	referralBytes = 8 << 20
)

// A referral is what an upstream said refers to something.
type referral struct {
	list  []manifest.Descriptor
	asked time.Time
}

// referrals are what upstreams said last. It is memory: a restart in an outage leaves
// images without their signatures, not unsigned ones with some.
type referrals struct {
	mu    sync.Mutex // guards what follows
	lru   *simplelru.LRU[content, referral]
	bytes int64
}

func newReferrals() *referrals {
	r := &referrals{}
	lru, err := simplelru.NewLRU(maxReferrals, func(_ content, v referral) { r.bytes -= v.cost() })
	if err != nil {
		panic(err) // it refuses only a size below 1
	}
	r.lru = lru
	return r
}

func (r *referrals) get(k content) (referral, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lru.Get(k)
}

// add remembers a list, at the price of those that were not asked for lately. One
// that would take a quarter of the room is not remembered.
func (r *referrals) add(k content, list []manifest.Descriptor) {
	v := referral{list, time.Now()}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lru.Remove(k)
	cost := v.cost()
	if cost > referralBytes/4 {
		return
	}
	r.lru.Add(k, v)
	for r.bytes += cost; r.bytes > referralBytes; {
		r.lru.RemoveOldest()
	}
}

// cost is about what it takes in memory, in bytes.
func (v referral) cost() int64 {
	n := int64(300)
	for _, d := range v.list {
		n += 350 + int64(len(d.MediaType)+len(d.ArtifactType))
		for k, a := range d.Annotations {
			n += 64 + int64(len(k)+len(a))
		}
		for _, u := range d.URLs {
			n += 16 + int64(len(u))
		}
	}
	return n
}
