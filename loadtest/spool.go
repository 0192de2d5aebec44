package loadtest

import (
	"crypto/sha256"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"hostlocal/manifest"
)

// Ranges of a layer arrive side by side, and its digest is over the bytes in order.
// Nobody here keeps a layer in memory for that: of each digest one client writes
// what it gets to a file that has no name, which is hashed in order when it is
// complete. The others hash each range as it streams by, and compare.
type spools struct {
	mu    sync.Mutex // guards all below
	right map[manifest.Digest][sha256.Size]byte
	busy  map[manifest.Digest]bool
	open  int
}

const (
	// spoolsAtOnce bounds the files at one moment, and maxSpool one of them, in
	// bytes; layers beyond stay unverified, which the measurement says.
	spoolsAtOnce = 4
	maxSpool     = 2 << 30
)

// begin returns the spool of d for the one client that is to fill it, and nil for
// the others, for whom all its methods do nothing.
func (s *spools) begin(d manifest.Descriptor) *spool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.right[d.Digest]; known || s.busy[d.Digest] || s.open >= spoolsAtOnce || d.Size > maxSpool {
		return nil
	}
	f, err := os.CreateTemp("", "registryd-loadtest-")
	if err != nil {
		return nil
	}
	os.Remove(f.Name())
	s.busy[d.Digest] = true
	s.open++
	return &spool{of: s, d: d, f: f}
}

// A spool is one layer on its way into a file.
type spool struct {
	of     *spools
	d      manifest.Descriptor
	f      *os.File
	failed atomic.Bool // the disk did not take it all
}

func (s *spool) write(at int64, b []byte) {
	if s == nil || s.failed.Load() {
		return
	}
	if _, err := s.f.WriteAt(b, at); err != nil {
		s.failed.Store(true)
	}
}

// judge hashes the file. If it is what its digest says, k is right for everybody.
func (s *spool) judge(k claim) error {
	if s == nil || s.failed.Load() {
		return nil
	}
	hash := s.d.Digest.Algorithm().New()
	buf := chunks.Get().(*[]byte)
	defer chunks.Put(buf)
	n, err := io.CopyBuffer(struct{ io.Writer }{hash}, io.NewSectionReader(s.f, 0, s.d.Size), *buf)
	if err != nil || n != s.d.Size {
		return nil // the disk's trouble, not the registry's
	}
	if got := s.d.Digest.Algorithm().Sum(hash); got != s.d.Digest {
		return failed("wrong digest", "%d bytes, got in ranges, of %s are %s", n, s.d.Digest, got)
	}
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.of.right[s.d.Digest] = k.sum
	return nil
}

// end lets another client try if this one did not come to the end.
func (s *spool) end() {
	if s == nil {
		return
	}
	s.f.Close()
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	delete(s.of.busy, s.d.Digest)
	s.of.open--
}
