package registryd

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"hostlocal/blobcache"
	"hostlocal/manifest"
)

const (
	// maxPending bounds the write-backs that are not done, in memory and in the
	// file: some 300 bytes each.
	maxPending = 4 << 10

	// blobWriters bounds the blobs that go to the bucket at once. Each follows a
	// fill while it runs, so it is the number of layers that hosts pull together;
	// those beyond it are uploaded when their fill has long ended.
	blobWriters = 16

	// manifestWriters are apart, so that manifests do not wait behind large blobs.
	manifestWriters = 4

	// retryFirst and retryMost bound the pause before the next attempt, which
	// doubles: a bucket that comes back is written to within retryMost.
	retryFirst = time.Second
	retryMost  = time.Minute

	// pauseAfter failures without a success between them, nothing is written until
	// a pause of the same length is over: a bucket that is down, or may only be
	// read, is not asked once for each write that waits.
	pauseAfter = 3

	// blobWriteLimit ends an upload that the bucket's own bounds did not end.
	blobWriteLimit = time.Hour

	// manifestWriteLimit bounds the writing of a manifest and its tags.
	manifestWriteLimit = time.Minute
)

// A write is one thing that the bucket is to be given: a blob and its layer link,
// or a manifest, its link, and the tags that stand for it.
type write struct {
	Repo     string          `json:"repo"`
	Digest   manifest.Digest `json:"digest"`
	Manifest bool            `json:"manifest,omitempty"`
	Size     int64           `json:"size,omitempty"` // of a blob, in bytes; -1 if not known
	Tags     []string        `json:"tags,omitempty"` // of a manifest
}

func (w write) key() content { return content{w.Repo, w.Digest} }

// job is a write that is not done yet.
type job struct {
	write
	running  bool
	again    bool // asked for while it was running: for new tags, or a new fill after one that failed
	attempts int
	due      time.Time
}

// writer gives the bucket what upstreams gave to this host. A blob is followed
// while its fill runs, so that it is in the bucket a moment after its last byte; a
// tag is written after its manifest, a link after what it links. Mirrored
// repositories have gaps by nature: only what was pulled is written.
//
// What the bucket does not take is tried again, ever more rarely, until it takes
// it, or the cache has evicted it. A bucket that answers to reads and refuses to be
// written is left alone. When maxPending writes are not done, what comes
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

	mu        sync.Mutex // guards what follows; no I/O under it
	jobs      map[content]*job
	queue     []*job // not running, in the order of their coming
	blobs     int    // blob writers at work
	manifests int    // manifest writers at work
	wake      *time.Timer
	done      int64
	failed    int64
	dropped   int64
	refused   int64
	trouble   error // the last failure, until a success
	streak    int   // failures since the last success
	paused    time.Time
}

// newWriter returns the writer of g, whose bucket is there.
func newWriter(g *Registry, path string) *writer {
	w := &writer{
		store: g.options.Store, disk: g.disk, load: g.onDisk, bg: g.bg, log: g.log,
		stands:   func(key tagKey) manifest.Digest { return g.tags.get(key).digest },
		reads:    g.bucket.answers,
		answered: g.bucket.well,
		jobs:     map[content]*job{},
	}
	w.wake = time.AfterFunc(retryMost, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.dispatch()
	})
	w.wake.Stop()
	if path != "" {
		w.file = &pendingFile{path: path, snapshot: w.snapshot, bg: g.bg, log: g.log}
	}
	return w
}

// resume queues what the last process did not get done.
func (w *writer) resume() error {
	list, err := w.file.load()
	for _, x := range list {
		w.add(x)
	}
	return err
}

// blob has the blob written, which is being filled or on this disk; size in
// bytes, -1 if not known.
func (w *writer) blob(repo string, d manifest.Digest, size int64) {
	w.add(write{Repo: repo, Digest: d, Size: size})
}

// manifest has a manifest on this disk written.
func (w *writer) manifest(repo string, d manifest.Digest) {
	w.add(write{Repo: repo, Digest: d, Manifest: true})
}

// tag has a tag written, and its manifest before it.
func (w *writer) tag(key tagKey, d manifest.Digest) {
	w.add(write{Repo: key.repo, Digest: d, Manifest: true, Tags: []string{key.tag}})
}

// add queues a write, or adds its tags to the one that is not done yet.
func (w *writer) add(x write) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if j, ok := w.jobs[x.key()]; ok {
		for _, tag := range x.Tags {
			j.addTag(tag)
		}
		j.again = j.again || j.running
		w.file.changed()
		return
	}
	if len(w.jobs) >= maxPending {
		w.dropped++
		return
	}
	j := &job{write: x}
	w.jobs[x.key()] = j
	w.queue = append(w.queue, j)
	w.file.changed()
	w.dispatch()
}

func (j *job) addTag(tag string) {
	for _, t := range j.Tags {
		if t == tag {
			return
		}
	}
	// A new slice: a running write reads the old one.
	j.Tags = append(j.Tags[:len(j.Tags):len(j.Tags)], tag)
}

// dispatch starts what is due and has a writer free, and sets the alarm for what
// is due later. The caller holds mu.
func (w *writer) dispatch() {
	now := time.Now()
	if now.Before(w.paused) {
		w.wake.Reset(w.paused.Sub(now))
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

// start runs j if a writer is free. The caller holds mu.
func (w *writer) start(j *job) bool {
	atWork, most, limit := &w.blobs, blobWriters, blobWriteLimit
	if j.Manifest {
		atWork, most, limit = &w.manifests, manifestWriters, manifestWriteLimit
	}
	if *atWork >= most {
		return false
	}
	x := j.write
	if !w.bg.run(limit, func(ctx context.Context) {
		err := w.write(ctx, x)
		w.mu.Lock()
		defer w.mu.Unlock()
		*atWork--
		w.finish(j, err)
		w.dispatch()
	}) {
		return false
	}
	*atWork++
	j.running = true
	return true
}

// finish notes the end of an attempt. The caller holds mu.
func (w *writer) finish(j *job, err error) {
	j.running = false
	switch {
	case err == nil && !j.again:
		w.done++
		w.succeeded()
		delete(w.jobs, j.key())
	case err == nil:
		j.again, j.attempts = false, 0
		w.succeeded()
		w.queue = append(w.queue, j)
	case errors.Is(err, errGone) && j.again:
		j.again = false
		w.queue = append(w.queue, j)
	case errors.Is(err, errGone):
		w.dropped++
		delete(w.jobs, j.key())
	case errors.Is(err, fs.ErrPermission) && w.reads():
		// A bucket that this host may only read is a normal case.
		w.refused++
		delete(w.jobs, j.key())
	case w.bg.ctx.Err() != nil:
		// A shutdown: it stays in the file.
	default:
		if w.trouble == nil && !reported(err) {
			w.log.Warn("bucket does not take what was pulled; trying again later", "repository", j.Repo, "digest", j.Digest, "err", err)
		}
		w.failed++
		w.trouble, j.again = err, false // it comes again with all its tags
		j.due = time.Now().Add(pause(j.attempts))
		j.attempts++
		w.rest()
		w.queue = append(w.queue, j)
	}
	w.file.changed()
}

// succeeded notes that the bucket took something, which says that it is well to
// those who read, too. What failed while it was down need not wait for its turn:
// that was not its own fault. The caller holds mu.
func (w *writer) succeeded() {
	if w.streak >= pauseAfter {
		for _, j := range w.queue {
			j.due = time.Time{}
		}
	}
	w.trouble, w.streak, w.paused = nil, 0, time.Time{}
	w.answered()
}

// rest notes a failure, and has nothing be written for a while if there were too
// many. Writes that fail together count once beyond that: they say together that
// the bucket is down, not that it has been for long. The caller holds mu.
func (w *writer) rest() {
	if time.Now().Before(w.paused) {
		return
	}
	if w.streak++; w.streak >= pauseAfter {
		w.paused = time.Now().Add(pause(w.streak - pauseAfter))
	}
}

// reported reports whether the store says in its own words, once, what err says.
func reported(err error) bool {
	var passing interface{ Temporary() bool }
	return errors.Is(err, fs.ErrPermission) || errors.As(err, &passing) && passing.Temporary()
}

// pause is how long to wait after so many failures before.
func pause(failures int) time.Duration { return min(retryFirst<<min(failures, 10), retryMost) }

// close keeps what is not done, once nothing runs any more.
func (w *writer) close() {
	w.wake.Stop()
	w.file.save()
}

// snapshot returns the writes that are not done.
func (w *writer) snapshot() []write {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]write, 0, len(w.jobs))
	for _, j := range w.jobs {
		list = append(list, j.write)
	}
	return list
}

func (w *writer) status() WriteBackStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := WriteBackStatus{Pending: len(w.jobs), Done: w.done, Failed: w.failed, Dropped: w.dropped, Refused: w.refused}
	if w.trouble != nil {
		s.Trouble = w.trouble.Error()
	}
	return s
}
