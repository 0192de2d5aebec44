package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

// BenchmarkStart starts the daemon on a cache of 200,000 blobs (small: 20,000) and
// on an empty one, in turns. It is promised to be ready within 200 ms.
func BenchmarkStart(b *testing.B) {
	full, empty := newTester(inMemory{b, b.TempDir}), newTester(b)
	full.fillCache(sized(20_000, 200_000))
	h := hubtest.New(b)
	var withBlobs, without []time.Duration
	for b.Loop() {
		withBlobs = append(withBlobs, full.startOnce(h))
		without = append(without, empty.startOnce(h))
	}
	n := len(withBlobs)
	b.ReportMetric(0, "ns/op")
	reportRatio(b, "ms", n, func(i int) float64 { return withBlobs[i].Seconds() * 1e3 })
	reportRatio(b, "ms-empty", n, func(i int) float64 { return without[i].Seconds() * 1e3 })
}

// The start must not look at every blob before it is ready. The best of a few
// starts on many blobs may take at most twice the best on none, and a moment; the
// look itself, which goes on behind, takes longer than that. It is the daemon's time that
// counts, and not what else this machine does: there are more tries where that shows.
func TestStartDoesNotGrowWithTheCache(t *testing.T) {
	full, empty := newTester(inMemory{t, t.TempDir}), newTester(t)
	full.fillCache(20_000)
	h := hubtest.New(t)
	var withBlobs, without []time.Duration
	for try := 1; ; try++ {
		withBlobs = append(withBlobs, full.startOnce(h))
		without = append(without, empty.startOnce(h))
		if try >= 3 && slices.Min(withBlobs) <= 2*slices.Min(without)+50*time.Millisecond {
			return
		}
		if try == 10 {
			t.Fatalf("the daemon was ready after %v on a cache with 20,000 blobs, and after %v on an empty one", withBlobs, without)
		}
	}
}

// startOnce starts the daemon, waits until it is ready and stops it. It returns how
// long it took to be ready.
func (t *tester) startOnce(h *hubtest.Hub) time.Duration {
	t.Helper()
	p := t.started(h)
	p.stop()
	return p.ready
}

// inMemory has its temporary folders in memory where Linux has that, so that to
// make very many files takes no disk.
type inMemory struct {
	testing.TB
	elsewhere func() string
}

// TempDir implements testing.TB.
func (t inMemory) TempDir() string {
	dir, err := os.MkdirTemp("/dev/shm", "registryd-test-")
	if err != nil {
		return t.elsewhere()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// fillCache puts n tiny blobs into the cache's folder, sealed as the daemon seals
// them.
func (t *tester) fillCache(n int) {
	t.Helper()
	blobs := filepath.Join(t.dir, "cache/blobs/sha256")
	for i := range 256 {
		check(t, os.MkdirAll(filepath.Join(blobs, fmt.Sprintf("%02x", i)), 0o755))
	}
	second := []unix.Timeval{{Sec: 1_700_000_000}, {Sec: 1_700_000_000}}
	for i := range n {
		body := strconv.AppendInt(nil, int64(i), 10)
		d := manifest.DigestOf(body)
		file := filepath.Join(blobs, d.Hex()[:2], d.Hex())
		check(t, os.WriteFile(file, body, 0o444))
		check(t, unix.Utimes(file, second))
	}
}
