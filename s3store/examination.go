package s3store

import (
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"hostlocal/manifest"
)

// An examination is what this host knows of the manifests of a repository: which it
// has looked into. It is memory alone.
type examination struct {
	turn chan struct{} // has one element while manifests are looked into

	mu      sync.Mutex // guards the rest; no I/O under it
	began   time.Time  // when the marker was read; zero: not yet
	marker  time.Time  // what it says
	through time.Time  // all links that are older by slack are known
	recent  map[manifest.Digest]time.Time
	kept    map[manifest.Digest][]manifest.Digest // by subject: referrers whose object could not be written
	serial  int                                   // counts what was looked into
}

func newExamination() *examination {
	return &examination{turn: make(chan struct{}, 1), recent: map[manifest.Digest]time.Time{}, kept: map[manifest.Digest][]manifest.Digest{}}
}

// stale reports whether the marker is to be read.
func (e *examination) stale() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.isStale()
}

// isStale is stale for those who hold mu.
func (e *examination) isStale() bool { return e.began.IsZero() || time.Since(e.began) > knownFor }

// begin forgets everything and relies on a marker that says t, or on none. Of several
// calls that read the marker at once the first does: another may have looked into
// manifests since.
func (e *examination) begin(t time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.isStale() {
		return
	}
	e.began, e.marker, e.through = time.Now(), t, t
	clear(e.recent)
	clear(e.kept)
}

// knows reports whether nothing is to be learned from a revision whose link has this
// time. One that was removed and is back has another.
func (e *examination) knows(d manifest.Digest, modified time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, ok := e.recent[d]
	return ok && t.Equal(modified) || !e.through.IsZero() && modified.Before(e.through.Add(-slack))
}

// saw remembers a revision that was in a list of referrers.
func (e *examination) saw(d manifest.Digest, modified time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.recent[d] = modified
}

// note remembers that a revision was looked into, and its object written before.
func (e *examination) note(d manifest.Digest, modified time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.recent[d] = modified
	e.serial++
}

// keep remembers a referrer that has no object.
func (e *examination) keep(subject, d manifest.Digest) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !slices.Contains(e.kept[subject], d) {
		e.kept[subject] = append(e.kept[subject], d)
	}
}

// written forgets one that has its object now.
func (e *examination) written(subject, d manifest.Digest) {
	e.mu.Lock()
	defer e.mu.Unlock()
	left := slices.DeleteFunc(e.kept[subject], func(k manifest.Digest) bool { return k == d })
	if e.kept[subject] = left; len(left) == 0 {
		delete(e.kept, subject)
	}
}

func (e *examination) unwritten(subject, d manifest.Digest) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.kept[subject], d)
}

// changes is another number after each revision that was looked into.
func (e *examination) changes() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.serial
}

// advance says that all links are known, the newest of which has time t. It reports
// whether the marker should say so: it need not for what each host looks at once more
// anyway, and must not while objects are missing.
func (e *examination) advance(t time.Time) (mark bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.After(e.through) {
		e.through = t
	}
	for d, modified := range e.recent {
		if modified.Before(e.through.Add(-slack)) {
			delete(e.recent, d)
		}
	}
	return len(e.kept) == 0 && (e.marker.IsZero() || t.Sub(e.marker) >= slack)
}

func (e *examination) marked(t time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.marker = t
}

// size is how many digests it holds.
func (e *examination) size() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := len(e.recent)
	for _, k := range e.kept {
		n += len(k) + 1
	}
	return n
}

const (
	// maxExaminations bounds the repositories of which something is known, and
	// maxExamined the digests in all of them, some 150 bytes each: 15 MB at worst,
	// in a read-only bucket whose repositories nobody has marked. What is forgotten
	// is read again.
	maxExaminations = 256
	maxExamined     = 100_000
)

// examinations are those of all repositories, the most recently asked for.
type examinations struct {
	mu  *sync.Mutex // guards lru; before an examination's own
	lru *simplelru.LRU[string, *examination]
}

func newExaminations() examinations {
	lru, _ := simplelru.NewLRU[string, *examination](maxExaminations, nil)
	return examinations{new(sync.Mutex), lru}
}

func (x examinations) get(repo string) *examination {
	x.mu.Lock()
	defer x.mu.Unlock()
	e, ok := x.lru.Get(repo)
	if !ok {
		e = newExamination()
		x.lru.Add(repo, e)
	}
	return e
}

// trim forgets the least recently asked for while there are too many digests. The
// last one asked for stays: it was just paid for.
func (x examinations) trim() {
	x.mu.Lock()
	defer x.mu.Unlock()
	total := 0
	for _, e := range x.lru.Values() {
		total += e.size()
	}
	for total > maxExamined && x.lru.Len() > 1 {
		_, e, _ := x.lru.RemoveOldest()
		total -= e.size()
	}
}
