package registryd

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"hostlocal/blobcache"
	"hostlocal/manifest"
)

const (
	// maxPending bounds the write-backs that are not done, in memory and in the
	// file: some 300 bytes each.
	maxPending = 4 << 10

	// maxTagsOwed bounds the tags that one manifest is owed at a time, some 200
	// bytes each. What is more is owed when the tag is next confirmed.
	maxTagsOwed = 32

	// blobWriters bounds the blobs that go to the bucket at once. Each follows a
	// fill while it runs, so it is the number of layers that hosts pull together;
	// those beyond it are uploaded when their fill has long ended.
	blobWriters = 16

	// manifestWriters are apart, so that manifests do not wait behind large blobs.
	manifestWriters = 4

	// blobWriteLimit ends an upload that the bucket's own bounds did not end.
	blobWriteLimit = time.Hour

	// manifestWriteLimit bounds the writing of a manifest and its tags.
	manifestWriteLimit = time.Minute
)

// A write is one thing that the bucket is to be given: a blob and its layer link,
// or a manifest, its link, and the tags that stand for it.
type write struct {
	Repo     string          `json:"repo,omitempty"`
	Digest   manifest.Digest `json:"digest"`
	Manifest bool            `json:"manifest,omitempty"`
	Size     int64           `json:"size,omitempty"` // of a blob, in bytes; -1 if not known
	Tags     []string        `json:"tags,omitempty"` // of a manifest

	// abandon says that nothing is to be given: an upload of Digest that nobody
	// goes on with is to be removed. Repo is empty. Its notes are what the file says.
	abandon bool
}

func (w write) key() content { return content{w.Repo, w.Digest} }

// addTag adds a tag, and reports whether that changed anything.
func (w *write) addTag(tag string) bool {
	if slices.Contains(w.Tags, tag) || len(w.Tags) >= maxTagsOwed {
		return false
	}
	// A new slice: a running write reads the old one.
	w.Tags = append(w.Tags[:len(w.Tags):len(w.Tags)], tag)
	return true
}

// job is a write that is not done yet.
type job struct {
	write
	serial   int64 // in the order of their coming
	running  bool
	again    bool // asked for while it was running: for new tags, or a new fill after one that failed
	attempts int
	due      time.Time
}

// writer gives the bucket what upstreams gave to this host, and what is pushed
// (turns.go). A blob is followed while its fill runs, so that it is in the bucket a
// moment after its last byte; a tag is written after its manifest, a link after what
// it links. Mirrored repositories have gaps by nature: only what was pulled is written.
//
// What is owed stands in a file before the client is given the last byte of it, and
// so does what has been sent of a large blob: a process that is killed leaves both
// to the next one.
//
// What the bucket does not take is tried again, ever more rarely, until it takes
// it, or the cache has evicted it. What it refuses waits until this host may write
// (refusal.go). When maxPending writes are not done, what comes
// is dropped and counted: the bucket then misses a blob, and the next host gets it
// from the upstream. No upstream is ever asked on account of a write.
type writer struct {
	store    Store
	disk     *blobcache.Cache
	load     func(manifest.Digest) (*manifest.Manifest, error) // from this disk
	stands   func(tagKey) manifest.Digest                      // what a tag stands for now, as far as is known
	reads    func() bool                                       // whether the bucket answers to reads
	answered func()                                            // is told that the bucket took something
	bg       *background
	log      *slog.Logger
	file     *pendingFile
	mirror   bool // what upstreams gave is written

	abandonAfter time.Duration

	mu        sync.Mutex // guards what follows; no I/O under it
	jobs      map[content]*job
	queue     []*job                    // not running, in the order of their coming
	serial    int64                     // of the last job
	blobs     int                       // blob writers at work
	manifests int                       // manifest writers at work
	turns     map[manifest.Digest]*turn // of the blobs that are being sent, by whomever
	pushers   map[manifest.Digest]int   // that have all of a blob and wait for its turn
	uploads   uploads
	wake      *time.Timer
	done      int64
	failed    int64
	dropped   int64
	trouble   error // the last failure, until a success
	streak    int   // failures since the last success
	paused    time.Time
	refusal   refusal
}

// newWriter returns the writer of g, whose bucket is there.
func newWriter(g *Registry, path string) *writer {
	w := &writer{
		store: g.options.Store, disk: g.disk, load: g.onDisk, bg: g.bg, log: g.log,
		stands:       func(key tagKey) manifest.Digest { return g.tags.get(key).digest },
		reads:        g.bucket.answers,
		answered:     g.bucket.well,
		mirror:       g.options.Mirror,
		abandonAfter: cmp.Or(g.options.UploadExpiry, abandonAfter),
		jobs:         map[content]*job{},
		turns:        map[manifest.Digest]*turn{},
		pushers:      map[manifest.Digest]int{},
		uploads:      uploads{notes: map[manifest.Digest][]string{}, staged: map[manifest.Digest]bool{}},
	}
	w.wake = time.AfterFunc(retryMost, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.dispatch()
	})
	w.wake.Stop()
	if path != "" {
		w.file = &pendingFile{path: path, account: g.disk.Account, bg: g.bg, log: g.log, owner: &w.mu, all: w.records, empty: w.idle}
	}
	return w
}

// blob has the blob written, which is being filled or on this disk; size in
// bytes, -1 if not known.
func (w *writer) blob(repo string, d manifest.Digest, size int64) {
	w.add(write{Repo: repo, Digest: d, Size: size})
}

// manifest has a manifest written that is in memory or on this disk.
func (w *writer) manifest(repo string, d manifest.Digest) {
	w.add(write{Repo: repo, Digest: d, Manifest: true})
}

// tag has a tag written, and its manifest before it.
func (w *writer) tag(key tagKey, d manifest.Digest) {
	w.add(write{Repo: key.repo, Digest: d, Manifest: true, Tags: []string{key.tag}})
}

// add queues a write, or adds its tags to the one that is not done yet. When it
// returns a kill does not forget it any more.
func (w *writer) add(x write) {
	w.mu.Lock()
	if j, ok := w.jobs[x.key()]; ok {
		for _, tag := range x.Tags {
			if j.addTag(tag) {
				w.file.add(record{write: write{Repo: x.Repo, Digest: x.Digest, Manifest: true, Tags: []string{tag}}})
			}
		}
		j.again = j.again || j.running
	} else if w.room() {
		w.queue = append(w.queue, w.enter(x))
		w.file.add(record{write: x})
		w.dispatch()
	} else {
		w.dropped++
	}
	w.mu.Unlock()
	w.file.flush()
}

// enter makes a job of a write. The caller holds mu.
func (w *writer) enter(x write) *job {
	w.serial++
	j := &job{write: x, serial: w.serial}
	w.jobs[x.key()] = j
	return j
}

// leave ends a job, done or not. What it leaves of an upload is removed if nobody
// goes on with it. The caller holds mu.
func (w *writer) leave(j *job) {
	delete(w.jobs, j.key())
	if j.abandon {
		return
	}
	w.file.add(record{write: write{Repo: j.Repo, Digest: j.Digest}, Done: true})
	w.abandon(j.Digest)
}

// dispatch starts what is due and has a writer free, and sets the alarm for what
// is due later. The caller holds mu.
func (w *writer) dispatch() {
	now := time.Now()
	if len(w.queue) == 0 {
		return
	}
	if until := w.rests(now); now.Before(until) {
		w.wake.Reset(until.Sub(now))
		return
	}
	var next time.Time
	rest := w.queue[:0]
	for _, j := range w.queue {
		switch {
		case now.Before(j.due):
			if next.IsZero() || j.due.Before(next) {
				next = j.due
			}
			rest = append(rest, j)
		case !w.start(j):
			rest = append(rest, j)
		}
	}
	clear(w.queue[len(rest):])
	w.queue = rest
	if !next.IsZero() {
		w.wake.Reset(next.Sub(now))
	}
}

// start runs j if a writer is free, and nobody is at the same blob. A push that is
// at it at the pace of its client gives way to one that has all of it, and not to one
// that would remove what it has sent. The caller holds mu.
func (w *writer) start(j *job) bool {
	atWork, most, limit := &w.blobs, blobWriters, blobWriteLimit
	if j.Manifest {
		atWork, most, limit = &w.manifests, manifestWriters, manifestWriteLimit
	}
	if *atWork >= most || w.refusal.scouting(w.blobs+w.manifests) {
		return false
	}
	if w.pushers[j.Digest] > 0 {
		return false
	}
	if other := w.turns[j.Digest]; other != nil {
		if other.arriving && !j.abandon {
			other.yield(errYielded)
		}
		return false
	}
	t := newTurn()
	t.filling = !j.Manifest && !j.abandon
	yielded, yield := context.WithCancelCause(context.Background())
	t.yield = yield
	x := j.write
	if !w.bg.run(limit, func(ctx context.Context) {
		defer yield(nil)
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(yielded, func() { cancel(errYielded) })()
		err := w.write(ctx, x)
		if err != nil && errors.Is(context.Cause(ctx), errYielded) {
			err = errYielded
		}
		w.mu.Lock()
		*atWork--
		w.freeTurn(x.Digest, t)
		w.finish(j, err)
		w.dispatch()
		w.mu.Unlock()
		w.file.flush()
	}) {
		return false
	}
	*atWork++
	w.turns[j.Digest] = t
	j.running = true
	return true
}

// finish notes the end of an attempt. The caller holds mu.
func (w *writer) finish(j *job, err error) {
	j.running = false
	switch {
	case err == nil && j.abandon:
		w.leave(j)
	case err == nil && !j.again:
		w.done++
		w.succeeded()
		w.leave(j)
	case err == nil:
		j.again, j.attempts = false, 0
		w.succeeded()
		w.queue = append(w.queue, j)
	case errors.Is(err, errYielded):
		j.again = false
		w.queue = append(w.queue, j)
	case w.bg.ctx.Err() != nil:
		// A shutdown: it stays in the file.
	case errors.Is(err, errGone) && j.again:
		j.again = false
		w.queue = append(w.queue, j)
	case errors.Is(err, errGone):
		w.dropped++
		w.leave(j)
	case errors.Is(err, fs.ErrPermission) && w.reads():
		w.refused(j)
	case j.abandon:
		w.postpone(j)
	default:
		w.fail(j, err)
	}
}

func (w *writer) status() WriteBackStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := WriteBackStatus{Pending: len(w.jobs), Done: w.done, Failed: w.failed, Dropped: w.dropped}
	if w.refusal.on {
		s.Pending, s.Refused = 0, len(w.jobs)
	}
	if w.trouble != nil {
		s.Trouble = w.trouble.Error()
	}
	return s
}
