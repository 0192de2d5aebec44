package registryd

import (
	"bufio"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"hostlocal/manifest"
)

const (
	// maxGuarded bounds the digests that are guarded, some 250 bytes each: 16 MiB.
	// What falls out is served by the word of a manifest alone.
	maxGuarded = 64 << 10

	// maxGuardFile bounds the file in bytes: it is written anew, from what counts,
	// when it comes to more than twice of what that takes.
	maxGuardFile = 2 * maxGuarded * 128
)

// A guard remembers what came to this host with credentials. A digest is no secret:
// whoever runs another upstream, or pushes to it, can write a manifest that names
// any, and a manifest's word is what blobs are served by. So what an upstream that
// is asked with credentials brought is served under another one's repositories only
// after that one has shown that it has the bytes. Within one upstream a manifest is
// the upstream's own word, and costs no question.
//
// A claim is made when an upstream begins to give a blob, before its bytes are
// verified. One that lies about having it gains nothing: where there are several
// claims, each of the claimants has to show.
type guard struct {
	path string // "": it is memory alone
	log  *slog.Logger

	mu   sync.Mutex // guards what follows; held over the append of a line
	lru  *simplelru.LRU[manifest.Digest, guarded]
	file *os.File // nil: it is memory alone
	size int64    // of file, in bytes

	seed maphash.Seed // of where a sample is taken, another in each process
}

// guarded are the upstreams that a digest concerns.
type guarded struct{ claimed, shown []string }

// newGuard reads the file, if there is one.
func newGuard(path string, log *slog.Logger) (*guard, error) {
	gd := &guard{path: path, log: log, lru: newSimpleLRU[manifest.Digest, guarded](maxGuarded), seed: maphash.MakeSeed()}
	if path == "" {
		return gd, nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(io.LimitReader(f, maxGuardFile))
	for lines.Scan() {
		kind, rest, _ := strings.Cut(lines.Text(), " ")
		host, text, _ := strings.Cut(rest, " ")
		if d, err := manifest.ParseDigest(text); err == nil && host != "" {
			gd.note(host, d, kind == "shown") // a torn line is none
		}
	}
	if err := lines.Err(); err != nil {
		f.Close()
		return nil, err
	}
	gd.file = f
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	gd.size = fi.Size()
	return gd, nil
}

// claim notes that an upstream that is asked with credentials gives d.
func (gd *guard) claim(host string, d manifest.Digest) { gd.add(host, d, false) }

// show notes that an upstream has shown that it has d; it matters only if there is a
// claim.
func (gd *guard) show(host string, d manifest.Digest) { gd.add(host, d, true) }

func (gd *guard) add(host string, d manifest.Digest, shown bool) {
	gd.mu.Lock()
	defer gd.mu.Unlock()
	if !gd.note(host, d, shown) || gd.file == nil {
		return
	}
	n, err := gd.file.WriteString(line(host, d, shown))
	if gd.size += int64(n); err == nil && gd.size > maxGuardFile {
		err = gd.compact()
	}
	if err != nil {
		gd.log.Warn("what is guarded is not kept on disk", "digest", d, "err", err)
	}
}

func line(host string, d manifest.Digest, shown bool) string {
	kind := "claimed"
	if shown {
		kind = "shown"
	}
	return fmt.Sprintf("%s %s %s\n", kind, host, d)
}

// note changes memory, and reports whether that is news.
func (gd *guard) note(host string, d manifest.Digest, shown bool) bool {
	e, ok := gd.lru.Get(d)
	list := &e.claimed
	if shown {
		list = &e.shown
	}
	if shown && !ok || slices.Contains(*list, host) {
		return false
	}
	*list = append(slices.Clip(*list), host)
	gd.lru.Add(d, e)
	return true
}

// open reports whether d may be served under host's repositories by a manifest's
// word.
func (gd *guard) open(host string, d manifest.Digest) bool {
	if host == "" {
		return true // to write to one's own repositories takes a right
	}
	gd.mu.Lock()
	defer gd.mu.Unlock()
	if gd.lru.Len() == 0 {
		return true
	}
	e, ok := gd.lru.Get(d)
	return !ok || len(e.claimed) == 1 && e.claimed[0] == host || slices.Contains(e.shown, host)
}

// place is where in a blob of size bytes host has to show n of them: always the same
// one, which it does not know. Where it could choose by asking again, it would wait for a
// place whose bytes it can guess.
func (gd *guard) place(host string, d manifest.Digest, size, n int64) int64 {
	if size <= n {
		return 0
	}
	return int64(maphash.String(gd.seed, host+" "+d.String()) % uint64(size-n+1))
}

// compact writes the file anew. The caller holds mu.
func (gd *guard) compact() error {
	temp := gd.path + ".new"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	w, size := bufio.NewWriter(f), 0
	write := func(host string, d manifest.Digest, shown bool) {
		n, _ := w.WriteString(line(host, d, shown)) // Flush has its error
		size += n
	}
	for _, d := range gd.lru.Keys() { // oldest first
		e, _ := gd.lru.Peek(d)
		for _, host := range e.claimed {
			write(host, d, false)
		}
		for _, host := range e.shown {
			write(host, d, true)
		}
	}
	if err = w.Flush(); err == nil {
		err = os.Rename(temp, gd.path)
	}
	if err != nil {
		f.Close()
		os.Remove(temp)
		return err
	}
	gd.file.Close()
	gd.file, gd.size = f, int64(size)
	return nil
}

// close closes the file.
func (gd *guard) close() {
	gd.mu.Lock()
	defer gd.mu.Unlock()
	if gd.file != nil {
		gd.file.Close()
		gd.file = nil
	}
}
