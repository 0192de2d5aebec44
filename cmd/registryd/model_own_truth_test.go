package main

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

const (
	ownRepos = 3 // the bucket's own repositories in the model
	ownTags  = 4 // in each

	// ownLinkTTL is for how long a host may show what was deleted through another one.
	ownLinkTTL = 5 * time.Second

	// ownLate is for how long after a failure was reported what it was about may yet
	// come: a call of the bucket was under way.
	ownLate = 2 * time.Second
)

// The own truth is what clients did to the bucket's own repositories, and what they were
// told of it.
type ownTruth struct {
	mu        sync.Mutex // guards what follows
	registers map[ownKey]*register
	removals  map[*ownRemoval]bool // that are under way
	repos     []*ownRepo
	made      uint64
}

// An ownKey is something that is there or not: a tag, a manifest, a blob, or the
// manifest what among the referrers of another one.
type ownKey struct {
	repo string
	kind string // "tag", "manifest", "blob", "referrer"
	what string
}

func (k ownKey) String() string { return fmt.Sprintf("%s %s of %s", k.kind, k.what, k.repo) }

// An ownRepo is one repository.
type ownRepo struct {
	name string

	mu     sync.Mutex // guards what follows
	blobs  []hubtest.Content
	gone   []hubtest.Content // that were pushed to be deleted
	images []pushedManifest
}

// A register is the history of one thing.
type register struct{ writes []*ownWrite }

// An ownWrite is a change, by a client that was told that it was done, or was not told.
type ownWrite struct {
	value        manifest.Digest // zero: it goes
	begun, ended time.Time       // ended is zero as long as it may yet come
	acked        bool
	node         *node
}

// An ownRemoval is the delete of a manifest, which takes the tags along that stand for
// it: of each that is a change that may be.
type ownRemoval struct {
	repo string
	d    manifest.Digest
	tags *ownWrite
}

func newOwnTruth() *ownTruth {
	t := &ownTruth{registers: map[ownKey]*register{}, removals: map[*ownRemoval]bool{}}
	for i := range ownRepos {
		t.repos = append(t.repos, &ownRepo{name: fmt.Sprintf("team/own%d", i)})
	}
	return t
}

// begin notes that a change begins; end tells whether it was acknowledged.
func (t *ownTruth) begin(n *node, value manifest.Digest, keys ...ownKey) (end func(acked bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &ownWrite{value: value, begun: time.Now(), node: n}
	for _, k := range keys {
		if t.registers[k] == nil {
			t.registers[k] = &register{}
		}
		t.registers[k].writes = append(t.registers[k].writes, w)
		for m := range t.removals {
			if k.kind == "tag" && k.repo == m.repo && value == m.d {
				t.registers[k].writes = append(t.registers[k].writes, m.tags)
			}
		}
	}
	return t.ender(w)
}

// ender returns what notes the end of a change.
func (t *ownTruth) ender(w *ownWrite) func(acked bool) {
	return func(acked bool) {
		t.mu.Lock()
		defer t.mu.Unlock()
		w.acked, w.ended = acked, time.Now()
		if !acked {
			w.ended = w.ended.Add(ownLate)
		}
	}
}

// remove notes that a manifest begins to be deleted, with the tags that stand for it now
// or by the time that end is called.
func (t *ownTruth) remove(n *node, repo string, d manifest.Digest) (end func()) {
	tags := t.tagsOf(repo, d)
	t.mu.Lock()
	defer t.mu.Unlock()
	m := &ownRemoval{repo, d, &ownWrite{begun: time.Now(), node: n}}
	for _, k := range tags {
		t.registers[k].writes = append(t.registers[k].writes, m.tags)
	}
	t.removals[m] = true
	return func() {
		t.mu.Lock()
		delete(t.removals, m)
		t.mu.Unlock()
		t.ender(m.tags)(false)
	}
}

// removedSince reports whether a delete of k may have come after begun.
func (t *ownTruth) removedSince(k ownKey, begun time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.registers[k].writes, func(w *ownWrite) bool {
		return w.value.IsZero() && (w.ended.IsZero() || w.ended.After(begun))
	})
}

// cutShort reports whether a delete of a manifest was not acknowledged, or a push beside
// one: whoever did not come to look whether the other one was there leaves a tag on
// nothing.
func (t *ownTruth) cutShort(repo string, d manifest.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, deleted, cut := t.registers[manifestOf(repo, d)], false, false
	if r == nil {
		return false
	}
	for _, w := range r.writes {
		deleted, cut = deleted || w.value.IsZero(), cut || !w.acked
	}
	return deleted && cut
}

// may reports whether who asks at node between from and to may find value there (the
// zero Digest: nothing). stale is for how long what was deleted elsewhere may be shown.
func (t *ownTruth) may(k ownKey, value manifest.Digest, n *node, from, to time.Time, stale time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.registers[k]
	if r == nil {
		return value.IsZero()
	}
	never := &ownWrite{acked: true}
	for _, w := range append([]*ownWrite{never}, r.writes...) {
		if w.value == value && !w.begun.After(to) && !r.superseded(w, n, from, stale) {
			return true
		}
	}
	return false
}

// superseded reports whether another change came surely after w, and was surely there
// before from.
func (r *register) superseded(w *ownWrite, n *node, from time.Time, stale time.Duration) bool {
	for _, v := range r.writes {
		until := from
		if v.value.IsZero() && v.node != n {
			until = from.Add(-stale)
		}
		known := w.begun.IsZero() || !w.ended.IsZero() && v.begun.After(w.ended)
		if v != w && v.acked && known && v.ended.Before(until) {
			return true
		}
	}
	return false
}

// tagsOf are the tags of a repository that ever stood for d, or were to.
func (t *ownTruth) tagsOf(repo string, d manifest.Digest) (keys []ownKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, r := range t.registers {
		if k.repo != repo || k.kind != "tag" {
			continue
		}
		for _, w := range r.writes {
			if w.value == d {
				keys = append(keys, k)
				break
			}
		}
	}
	return keys
}

// ever reports whether value was ever written there.
func (t *ownTruth) ever(k ownKey, value manifest.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.registers[k]; r != nil {
		for _, w := range r.writes {
			if w.value == value {
				return true
			}
		}
	}
	return false
}

// next is a number for a new content.
func (t *ownTruth) next() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.made++
	return t.made
}

// wantRightOwn compares the bucket with the truth, while nobody does anything: nothing
// is visible before what it is made of, nothing acknowledged is missing, and of what was
// pushed at once there is one.
func (w *world) wantRightOwn() {
	b := s3Bucket{w.s3, ""}
	a := newAuditor(b)
	a.dangles = w.own.cutShort
	if err := a.audit(); err != nil {
		w.found("%v", err)
		return
	}
	t, now := w.own, time.Now()
	t.mu.Lock()
	var keys []ownKey
	for k := range t.registers {
		keys = append(keys, k)
	}
	t.mu.Unlock()
	for _, k := range keys {
		var at manifest.Digest
		d, _ := manifest.ParseDigest(k.what)
		switch k.kind {
		case "tag":
			said, _ := b.read(tagKey(k.repo, k.what))
			at, _ = manifest.ParseDigest(string(said))
		case "manifest":
			if a.there[revisionKey(k.repo, d)] && a.there[blobKey(d)] {
				at = d
			}
		case "blob":
			if a.there[layerKey(k.repo, d)] && a.there[blobKey(d)] {
				at = d
			}
		default:
			continue
		}
		if !t.may(k, at, nil, now, now, 0) {
			w.found("the bucket has %q for the %s, which nobody was told", at, k)
			return
		}
	}
}
