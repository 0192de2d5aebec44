// Package blobcache is a host's own copy of blobs: a folder within a hard budget of
// bytes, in which a digest is absent, filling or present.
//
//	         Get                    all bytes landed, digest matched
//	absent ───────> filling ─────────────────────────────────────> present
//	   ^               │ mismatch, no source left                     │
//	   └───────────────┴──────────────── eviction, damage ────────────┘
//
// Present is one plain read-only file, complete and verified; a hit opens it.
// Filling is one fill, owned by the cache, that any number of readers join at any
// byte and that outlives all of them. What the disk has no room for, or cannot
// take, passes through memory.
//
// The invariant: nobody ends well with bytes that do not have the digest. A file
// stands under its digest only after it matched, and the last byte of a blob that
// is still coming is held back from everybody until it did.
//
// The files are the truth. The index that says what to evict is memory, built behind
// the start; killing the process at any instruction loses nothing but time.
package blobcache

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"hostlocal/manifest"
)

// Options are a Cache's settings. Only Budget has no useful zero.
type Options struct {
	// Budget is what the folder may take, in bytes of allocated blocks. It is never
	// exceeded.
	Budget int64
	// KeepFree is how many bytes of the file system are left free for others. The
	// cache shrinks when others grow.
	KeepFree int64
	// ScrubRate is at how many bytes a second files are read again in search of
	// silent rot; 0 means 4 MiB/s, negative none.
	ScrubRate int64
	// Window is how many bytes of memory blobs that pass through may take together;
	// 0 means 32 MiB.
	Window int64
	// Log gets what a person should know; nil means slog.Default().
	Log *slog.Logger
	// OnFill, if set, is told how each fill and each passing through ended: the
	// source that it used, and ok, passed, mismatch, storage, failed or stopped.
	OnFill func(source, result string)
	// OnMismatch, if set, is told which source's bytes did not match.
	OnMismatch func(d manifest.Digest, source string)
}

const (
	defaultScrubRate = 4 << 20
	defaultWindow    = 32 << 20

	// firstAnswer bounds how long Get waits: a client without a time-out of its own
	// must not hang, and ten seconds is what the daemon's callers are promised.
	firstAnswer = 9 * time.Second

	// suspicion is how long after a mismatch a blob is taken from one source only,
	// and not handed out from its middle: a client would glue a right tail to the
	// wrong prefix that it kept.
	suspicion = time.Minute
)

// A Cache is a folder of blobs. Its methods may be called from many goroutines.
type Cache struct {
	dir    string
	blobs  string // dir + "/blobs"
	lock   *os.File
	opt    Options
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup // every goroutine of the cache's

	ledger     *ledger
	index      *index
	scraps     *scraps
	uploads    *uploads
	hand       hand
	dirs       *dirs
	memory     *memory
	names      *Names
	places     places
	unreadable unreadables
	stats      stats
	windows    windows
	bodies     chan struct{}
	checks     singleflight.Group // of files without a seal
	puts       singleflight.Group

	mu       sync.Mutex // guards the maps below; taken before any other lock
	fills    map[manifest.Digest]*fill
	passes   map[manifest.Digest]*pass
	suspects map[manifest.Digest]suspect
	closed   bool
}

// New opens the folder dir, which it creates if need be and locks against other
// processes (ErrLocked). It does not read what is there: that goes on behind, and
// until it is done only the choice of what to evict is poorer. Close it.
func New(dir string, opt Options) (*Cache, error) {
	if opt.Budget <= 0 {
		return nil, fmt.Errorf("blobcache: a budget of %d bytes holds nothing", opt.Budget)
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	if opt.ScrubRate == 0 {
		opt.ScrubRate = defaultScrubRate
	}
	if opt.Window == 0 {
		opt.Window = defaultWindow
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	ledger := openLedger(dir, opt.Budget, opt.KeepFree)
	if err := makeFolders(dir); err != nil {
		lock.Close()
		return nil, err
	}
	c := &Cache{
		dir: dir, blobs: filepath.Join(dir, blobsDir), lock: lock, opt: opt, log: opt.Log,
		ledger: ledger, index: newIndex(), scraps: newScraps(), uploads: newUploads(), memory: newMemory(),
		dirs:     &dirs{ledger: ledger, blocks: make(map[string]int64)},
		windows:  windows{free: max(opt.Window, windowMin), freed: make(chan struct{})},
		bodies:   make(chan struct{}, bodies),
		fills:    make(map[manifest.Digest]*fill),
		passes:   make(map[manifest.Digest]*pass),
		suspects: make(map[manifest.Digest]suspect),
	}
	ledger.evict = c.evictOne
	if c.names, err = OpenNames(dir, ledger.addFixed); err != nil {
		lock.Close()
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.stats.fill = opt.OnFill
	if c.stats.fill == nil {
		c.stats.fill = func(string, string) {}
	}
	start, leftovers := ledger.start(), c.takeLeftovers()
	c.work.Go(func() {
		c.scan(start, leftovers)
		c.scrub()
	})
	c.work.Go(c.trimNames)
	c.work.Go(func() { ledger.keepAhead(c.ctx) })
	return c, nil
}

// Close stops the fills, which leaves what they have for the next start, and waits
// for all that the cache does; uploads stay for it too. Readers of complete files may
// read on.
func (c *Cache) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.work.Wait()
	c.uploads.close()
	c.ledger.evicting.Lock()
	c.hand.end()
	c.ledger.evicting.Unlock()
	err := c.ledger.lower()
	if cerr := unlockFolder(c.lock); err == nil {
		err = cerr
	}
	return err
}

// Names are the links beside the blobs: what this host served under which name.
func (c *Cache) Names() *Names { return c.names }

// enter has Close wait for what the caller does on the disk until it calls
// work.Done. It reports false if the cache is closed.
func (c *Cache) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.work.Add(1)
	}
	return !c.closed
}

// Resume starts the fills that the last process left unfinished. sources says
// where such a blob, whose Want had that Origin, can be had; none means that its
// bytes are left until their room is needed.
func (c *Cache) Resume(sources func(d manifest.Digest, origin string, size int64) []Source) {
	names, err := os.ReadDir(filepath.Join(c.dir, partialDir))
	if err != nil {
		return
	}
	for _, n := range names {
		d, ok := parsePartialName(n.Name())
		if !ok {
			continue
		}
		h, _, ok := readMap(filepath.Join(c.dir, partialDir, n.Name()+mapSuffix))
		if !ok {
			continue
		}
		if s := sources(d, h.Origin, h.Size); len(s) > 0 {
			if f, _, err := c.fillFor(d, Want{Size: h.Size, Origin: h.Origin, Sources: s}); err == nil {
				f.leave()
			}
		}
	}
}
