package registryd

import (
	"time"

	"hostlocal/manifest"
)

// tagWrites are changes of one tag that are on their way to the bucket. Which of
// two that run at once comes last only the bucket knows: then nothing is known of
// the tag until it is asked.
type tagWrites struct {
	running int
	crossed bool // more than one at some time
}

// writes notes that this host begins to change a tag in the bucket. ended is called
// once, when it has.
func (t *tagMemory) writes(key tagKey) (ended func() (alone bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.writing[key]
	if w == nil {
		w = &tagWrites{}
		t.writing[key] = w
	}
	w.running++
	w.crossed = w.crossed || w.running > 1
	return func() bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		if w.running--; w.running == 0 {
			delete(t.writing, key)
		}
		return !w.crossed
	}
}

// pushed notes that this host has made a tag stand for desc.
func (t *tagMemory) pushed(key tagKey, desc manifest.Descriptor) known {
	k := t.confirm(key, desc, time.Now())
	return t.update(key, func(now *known) { now.wrote = k.confirmed })
}

// deleted notes that this host has removed a tag, and forgets it.
func (t *tagMemory) deleted(key tagKey, err error) {
	now := time.Now()
	t.update(key, func(k *known) { k.wrote = now })
	t.refuse(key, err, 0, now)
}

// doubt has the source be asked again before a tag is believed to be what is known
// of it, by somebody who asks from now on.
func (t *tagMemory) doubt(key tagKey) {
	t.update(key, func(k *known) { k.confirmed, k.wrote, k.retry = time.Time{}, time.Now(), time.Time{} })
}

// standing returns the tags in memory that stand for d in repo.
func (t *tagMemory) standing(repo string, d manifest.Digest) (tags []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range t.lru.Keys() {
		if k, ok := t.lru.Peek(key); ok && key.repo == repo && k.digest == d {
			tags = append(tags, key.tag)
		}
	}
	return tags
}
