package registryd

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"hostlocal/blobcache"
	"hostlocal/manifest"
)

// maxTags bounds the tags in memory, about 400 bytes each. One that falls out is
// read from the disk again.
const maxTags = 16 << 10

// tagKey is a tag in a repository, by the repository's name in the bucket.
type tagKey struct{ repo, tag string }

// known is what this host knows of a tag. The zero value is: nothing.
type known struct {
	digest    manifest.Digest // what its source last said, or the bucket has
	mediaType string          // of digest, "" if not said
	size      int64           // of digest, in bytes, 0 if not said
	confirmed time.Time       // when the source last said so; zero: not yet
	kept      bool            // digest's manifest is on this disk, and the tag's link says so too
	before    manifest.Digest // the one kept before digest, if any

	// refusal is the source's last answer, if it was one that there is no such
	// tag or that it is not for us. From then on only a new answer makes the tag
	// be served again: an outage does not bring the old image back.
	refusal error
	until   time.Time // refusal is answered without asking

	trouble error     // the last outage, if no answer came after it
	retry   time.Time // until then the source is not asked again

	wrote time.Time // when this host last changed the tag itself

	stored   manifest.Digest // what the tag stands for in the bucket, as far as is known
	storedAt time.Time       // when that was known
}

// storedTTL is for how long the bucket is believed to say of a tag what this host
// last saw or wrote there. Another host may have found the tag moved, and moved back
// again, in between: then nobody else would write it. A look costs one call, behind
// a confirmation that was due anyway.
const storedTTL = 10 * time.Minute

// inBucket reports whether the bucket is believed to say that the tag stands for d.
func (k known) inBucket(d manifest.Digest) bool {
	return k.stored == d && time.Since(k.storedAt) < storedTTL
}

// tagMemory is what is known of all tags: in memory, and behind that on disk.
type tagMemory struct {
	links *blobcache.Names

	mu      sync.Mutex // guards what follows; no I/O under it
	lru     *simplelru.LRU[tagKey, known]
	writing map[tagKey]*tagWrites // tags that this host is changing in the bucket
}

func newTagMemory(l *blobcache.Names) *tagMemory {
	return &tagMemory{links: l, lru: newSimpleLRU[tagKey, known](maxTags), writing: map[tagKey]*tagWrites{}}
}

// get returns what is known of a tag; it reads the disk once.
func (t *tagMemory) get(key tagKey) known {
	t.mu.Lock()
	k, ok := t.lru.Get(key)
	t.mu.Unlock()
	if ok {
		return k
	}
	if l, err := t.links.Tag(key.repo, key.tag); err == nil {
		// Whether the bucket has it too is asked when it is next confirmed: a kill
		// may have come between this disk and the bucket.
		k = known{digest: l.Digest, confirmed: l.Confirmed, kept: true}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if newer, ok := t.lru.Get(key); ok {
		return newer
	}
	t.lru.Add(key, k)
	return k
}

// update changes what is known, in one step, and returns it.
func (t *tagMemory) update(key tagKey, change func(*known)) known {
	k := t.get(key)
	t.mu.Lock()
	defer t.mu.Unlock()
	if newer, ok := t.lru.Get(key); ok {
		k = newer
	}
	change(&k)
	t.lru.Add(key, k)
	return k
}

// confirm notes that the source, asked at the time given, says desc. What it was
// asked before this host changed the tag is not news.
func (t *tagMemory) confirm(key tagKey, desc manifest.Descriptor, asked time.Time) known {
	return t.update(key, func(k *known) {
		if asked.Before(k.wrote) {
			return
		}
		if k.digest != desc.Digest {
			if k.kept {
				k.before = k.digest
			}
			k.digest, k.kept, k.mediaType, k.size = desc.Digest, false, "", 0
		}
		if desc.MediaType != "" && desc.Size > 0 {
			k.mediaType, k.size = desc.MediaType, desc.Size
		}
		k.confirmed = time.Now()
		k.refusal, k.until, k.trouble, k.retry = nil, time.Time{}, nil, time.Time{}
	})
}

// hint notes what the bucket has for a tag of which nothing better is known.
func (t *tagMemory) hint(key tagKey, d manifest.Digest) known {
	return t.update(key, func(k *known) {
		k.stored, k.storedAt = d, time.Now()
		if k.digest.IsZero() && k.refusal == nil {
			k.digest = d
		}
	})
}

// refuse notes the answer of the source, asked at the time given, that the tag is
// not to be had, and forgets what it stood for, on disk too.
func (t *tagMemory) refuse(key tagKey, err error, keep time.Duration, asked time.Time) {
	k := t.update(key, func(k *known) {
		if !asked.Before(k.wrote) {
			*k = known{refusal: err, until: time.Now().Add(keep), kept: k.kept, wrote: k.wrote}
		}
	})
	if k.refusal == nil {
		return // pushed meanwhile
	}
	if k.kept {
		// What cannot be removed is served again after a restart, in an
		// outage, with its Warning: no worse than a host that never asked.
		_ = t.links.RemoveTag(key.repo, key.tag)
	}
}

// fail notes that the source could not be asked.
func (t *tagMemory) fail(key tagKey, err error, backoff time.Duration) known {
	return t.update(key, func(k *known) {
		k.trouble = err
		// Of a tag of which nothing is known the source is asked again at
		// once, unless it said how long to wait.
		if backoff = max(backoff, restFor(err)); !k.digest.IsZero() || restFor(err) > 0 {
			k.retry = time.Now().Add(backoff)
		}
	})
}

// forget drops what memory knows of a tag.
func (t *tagMemory) forget(key tagKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lru.Remove(key)
}

// keep notes that the tag's link on disk says d.
func (t *tagMemory) keep(key tagKey, d manifest.Digest) {
	t.update(key, func(k *known) {
		if k.digest == d {
			k.kept = true
		}
	})
}

// newSimpleLRU returns a cache without a lock, of at most size entries.
func newSimpleLRU[K comparable, V any](size int) *simplelru.LRU[K, V] {
	c, err := simplelru.NewLRU[K, V](size, nil)
	if err != nil {
		panic(err) // it refuses only a size below 1
	}
	return c
}

// maxAwaited bounds the manifests that tags wait for.
const maxAwaited = 4 << 10

// awaited remembers which tags were found to stand for a manifest that is not on
// this disk yet (a client asks HEAD by tag, then GET by digest): when it comes
// they are kept with it.
type awaited struct {
	mu   sync.Mutex // guards tags
	tags *simplelru.LRU[content, []string]
}

// maxTagsAwaiting bounds the tags that wait for one manifest; more are not kept
// until they are confirmed the next time.
const maxTagsAwaiting = 16

func newAwaited() *awaited {
	return &awaited{tags: newSimpleLRU[content, []string](maxAwaited)}
}

// add has tag wait for the manifest d of repo.
func (a *awaited) add(repo string, d manifest.Digest, tag string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	tags, _ := a.tags.Get(content{repo, d})
	for _, t := range tags {
		if t == tag {
			return
		}
	}
	if len(tags) < maxTagsAwaiting {
		a.tags.Add(content{repo, d}, append(tags, tag))
	}
}

// take returns the tags that wait for d, which wait no more.
func (a *awaited) take(repo string, d manifest.Digest) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	tags, _ := a.tags.Peek(content{repo, d})
	a.tags.Remove(content{repo, d})
	return tags
}
