package registryd

import (
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sys/unix"

	"hostlocal/manifest"
)

const (
	// maxSmallBlob is the largest blob that is kept in memory. At 64 KiB opening
	// and closing the file costs as much as sending it; above, sendfile wins.
	maxSmallBlob = 64 << 10

	// smallBlobBudget bounds what is kept, in bytes with overhead: 3 in 5 blobs
	// are below 10 kB (configs, small layers), so this is some thousands of
	// images. More would show in the 128 MiB that a storm may take.
	smallBlobBudget = 16 << 20

	// smallOverhead is what an entry costs beside its body, in bytes.
	smallOverhead = 1 << 10

	// smallRecheck is how long a blob is served from memory before the registry
	// is asked again whether the repository has it; the cache learns with it
	// that the blob is still in use.
	smallRecheck = 10 * time.Second
)

// A smallKey is a blob as a request names it. The names are a client's own words,
// but only what the registry has answered is kept under them.
type smallKey struct {
	name, ns string
	digest   manifest.Digest
}

// A smallBlob is the content of a file, true as long as the file is as it was.
type smallBlob struct {
	body    []byte
	headers *contentHeaders
	path    string
	stat    unix.Stat_t
	loaded  time.Time
}

// smallBlobs keeps small complete blobs in memory, bounded by bytes, the longest
// unused leave first. An entry never outlives its file: each use compares what
// stat says with what it said when the bytes were read, so a blob that was
// evicted, or damaged by somebody, is noticed here as it is by the cache.
type smallBlobs struct {
	mu    *sync.Mutex // guards all below
	order *simplelru.LRU[smallKey, *smallBlob]
	bytes *int64
}

func newSmallBlobs() smallBlobs {
	var bytes int64
	order, err := simplelru.NewLRU(smallBlobBudget/smallOverhead, func(_ smallKey, b *smallBlob) { bytes -= b.cost() })
	if err != nil {
		panic(err) // only for a size below one
	}
	return smallBlobs{mu: new(sync.Mutex), order: order, bytes: &bytes}
}

func (b *smallBlob) cost() int64 { return int64(len(b.body)) + smallOverhead }

// get returns the blob if it is here and its file unchanged.
func (s smallBlobs) get(k smallKey, now time.Time) *smallBlob {
	s.mu.Lock()
	b, ok := s.order.Get(k)
	s.mu.Unlock()
	if !ok {
		return nil
	}
	var st unix.Stat_t
	if now.Sub(b.loaded) < smallRecheck && unix.Stat(b.path, &st) == nil && sameFile(&st, &b.stat) {
		return b
	}
	s.mu.Lock()
	if again, ok := s.order.Peek(k); ok && again == b {
		s.order.Remove(k)
	}
	s.mu.Unlock()
	return nil
}

// keep reads f, which is complete and verified, unless it changes meanwhile. What
// cannot be read is not kept: it is served from the file, and fails there.
func (s smallBlobs) keep(k smallKey, f *os.File, c *contentHeaders, now time.Time) {
	b := &smallBlob{headers: c, path: f.Name(), loaded: now}
	var after unix.Stat_t
	if unix.Fstat(int(f.Fd()), &b.stat) != nil || b.stat.Size > maxSmallBlob {
		return
	}
	b.body = make([]byte, b.stat.Size)
	if _, err := f.ReadAt(b.body, 0); err != nil && len(b.body) > 0 {
		return
	}
	if unix.Fstat(int(f.Fd()), &after) != nil || !sameFile(&after, &b.stat) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.order.Remove(k)
	s.order.Add(k, b)
	for *s.bytes += b.cost(); *s.bytes > smallBlobBudget; {
		s.order.RemoveOldest()
	}
}

// sameFile reports whether nothing was done to the file between two stats: ctime
// tells even of a write whose mtime was put back.
func sameFile(a, b *unix.Stat_t) bool {
	return a.Ino == b.Ino && a.Dev == b.Dev && a.Size == b.Size && a.Mtim == b.Mtim && a.Ctim == b.Ctim
}

// fromMemory answers a plain GET of a small blob that is in memory, and reports
// whether it did.
func (h *Handler) fromMemory(w *response, r *http.Request, t target, ns string) bool {
	if r.Method != http.MethodGet || conditional(r) {
		return false
	}
	b := h.small.get(smallKey{t.name, ns, t.digest}, w.start)
	if b == nil {
		return false
	}
	w.digest = t.digest
	w.setContent(b.headers, SourceDisk, cacheControl)
	w.setLength(b.headers)
	w.Write(b.body) // a client that does not take it has left
	return true
}
