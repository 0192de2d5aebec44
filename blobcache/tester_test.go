package blobcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hostlocal/manifest"
)

// tester is a cache in a folder of its own, with verbs.
type tester struct {
	testing.TB
	*Cache
	dir     string
	opt     Options
	results chan string // of fills, as they end
}

func newTester(t testing.TB, opt Options) *tester {
	t.Helper()
	h := &tester{TB: t, dir: filepath.Join(t.TempDir(), "cache"), results: make(chan string, 10000)}
	if opt.Budget == 0 {
		opt.Budget = 1 << 30
	}
	opt.ScrubRate = max(opt.ScrubRate, -1)
	if opt.ScrubRate == 0 {
		opt.ScrubRate = -1
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	opt.OnFill = func(source, result string) { h.results <- source + " " + result }
	h.opt = opt
	h.start()
	t.Cleanup(func() { h.Close() })
	return h
}

func (h *tester) start() {
	h.Helper()
	c, err := New(h.dir, h.opt)
	if err != nil {
		h.Fatal(err)
	}
	h.Cache = c
}

func (h *tester) restart() {
	h.Helper()
	h.Close()
	h.start()
}

// awaitScan returns when the index is complete.
func (h *tester) awaitScan() {
	h.Helper()
	h.await("the scan", func() bool { return h.stats.scanned.Load() })
}

func (h *tester) await(what string, ok func() bool) {
	h.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			h.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// patience is how long a busy disk may take for an fsync of the largest blob here.
const patience = time.Minute

// wantResult waits for a fill to end, and checks how it did.
func (h *tester) wantResult(want string) {
	h.Helper()
	select {
	case got := <-h.results:
		if got != want {
			h.Fatalf("a fill ended as %q, want %q", got, want)
		}
	case <-time.After(patience):
		h.Fatalf("no fill ended in %v, want %q", patience, want)
	}
}

// pull gets all of the blob, as a client without a range does.
func (h *tester) pull(o *origin, others ...Source) ([]byte, error) {
	return h.pullRange(context.Background(), o, 0, -1, others...)
}

func (h *tester) pullRange(ctx context.Context, o *origin, off, n int64, others ...Source) ([]byte, error) {
	b, err := h.Get(ctx, o.digest, h.want(o, off, others...))
	if err != nil {
		return nil, err
	}
	defer b.Close()
	var out bytes.Buffer
	err = b.CopyRange(ctx, &out, off, n)
	return out.Bytes(), err
}

// follow is pull without keeping the bytes: it returns how many were right.
func (h *tester) follow(o *origin) (int64, error) {
	b, err := h.Get(h.Context(), o.digest, h.want(o, 0))
	if err != nil {
		return 0, err
	}
	defer b.Close()
	c := &comparer{want: o.bytes}
	err = b.CopyRange(h.Context(), c, 0, -1)
	return c.n, err
}

// comparer is a client that looks at each byte and keeps none.
type comparer struct {
	want []byte
	n    int64
}

func (c *comparer) Write(p []byte) (int, error) {
	if !bytes.HasPrefix(c.want[c.n:], p) {
		return 0, fmt.Errorf("wrong bytes behind byte %d", c.n)
	}
	c.n += int64(len(p))
	return len(p), nil
}

func (h *tester) want(o *origin, off int64, others ...Source) Want {
	return Want{Size: int64(len(o.bytes)), Offset: off, Origin: "test", Sources: append([]Source{o}, others...)}
}

func (h *tester) wantRight(o *origin, got []byte, err error) {
	h.Helper()
	if err != nil {
		h.Fatalf("pull of %s: %v", o.digest, err)
	}
	if !bytes.Equal(got, o.bytes) {
		h.Fatalf("pull of %s: %d bytes that differ from the %d of the blob", o.digest, len(got), len(o.bytes))
	}
}

// wantPresent checks that the blob is complete on the disk and right. Its fill has ended
// then: what it took is counted as the blob's, and it has no file open.
func (h *tester) wantPresent(o *origin) {
	h.Helper()
	h.await("the blob on the disk", func() bool { return h.Has(o.digest) && !h.filling(o.digest) })
	b, err := os.ReadFile(h.blobPath(o.digest))
	h.wantRight(o, b, err)
}

func (h *tester) filling(d manifest.Digest) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fills[d] != nil
}

// du is what the folder takes, as the program of that name counts.
func (h *tester) du() int64 {
	h.Helper()
	out, err := exec.Command("du", "-s", "-B1", h.dir).Output()
	if len(out) == 0 {
		h.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
	if err != nil {
		h.Fatal(err)
	}
	return n
}

// wantLedgerRight compares the ledger with du, which may see less: the small files
// that the folder itself needs are counted at their most. What ends just now, or moves
// from folder to folder under du, may take a moment.
func (h *tester) wantLedgerRight() {
	h.Helper()
	for deadline := time.Now().Add(3 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		ledger, du := h.Stats().Bytes, h.du()
		if ledger >= du && ledger <= du+ownFiles {
			return
		}
		if time.Now().After(deadline) {
			h.Errorf("the ledger says %d bytes, du %d", ledger, du)
			return
		}
	}
}

// windowsFree is the memory that no pass has.
func (h *tester) windowsFree() int64 {
	h.windows.mu.Lock()
	defer h.windows.mu.Unlock()
	return h.windows.free
}

// origin is a source in memory, with faults.
type origin struct {
	name     string
	bytes    []byte // what it has
	digest   manifest.Digest
	part     int64 // of Plan; 0: not a Planner's answer
	parallel int
	patience time.Duration // with its silence, until another source is asked as well

	opens atomic.Int64
	sent  atomic.Int64

	mu      sync.Mutex // guards the faults
	gate    chan struct{}
	err     error
	noSize  bool
	noRange bool
	wrong   int64 // the byte that is flipped, -1 for none
	cut     int64 // each body breaks off after that many bytes, 0 never
	short   bool  // a clean end instead of an error
	size    int64 // what it says, 0 for the truth
	stall   int64 // bodies stall at that byte of the blob, -1 never
	pace    func(off int64)
}

func newOrigin(n int64, seed uint64) *origin {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	r.Read(b)
	return &origin{name: "upstream", bytes: b, digest: manifest.DigestOf(b), wrong: -1, stall: -1, part: 8 << 20, parallel: 1, patience: patience}
}

// twin is another source of the same blob.
func (o *origin) twin(name string) *origin {
	return &origin{name: name, bytes: o.bytes, digest: o.digest, wrong: -1, stall: -1, part: o.part, parallel: o.parallel, patience: o.patience}
}

// with changes faults.
func (o *origin) with(f func(*origin)) *origin {
	o.mu.Lock()
	defer o.mu.Unlock()
	f(o)
	return o
}

func (o *origin) Name() string            { return o.name }
func (o *origin) Plan(int64) (int64, int) { return o.part, o.parallel }
func (o *origin) Patience() time.Duration { return o.patience }

func (o *origin) Open(ctx context.Context, off, n int64) (io.ReadCloser, int64, int64, error) {
	o.opens.Add(1)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gate != nil {
		gate := o.gate
		o.mu.Unlock()
		select {
		case <-gate:
		case <-ctx.Done():
		}
		o.mu.Lock()
		if ctx.Err() != nil {
			return nil, 0, 0, ctx.Err()
		}
	}
	if o.err != nil {
		return nil, 0, 0, o.err
	}
	size := int64(len(o.bytes))
	if o.size != 0 {
		size = o.size
	}
	if o.noSize {
		size = -1
	}
	if o.noRange {
		off, n = 0, -1
	}
	if off > 0 && off >= int64(len(o.bytes)) {
		return nil, 0, 0, fmt.Errorf("range starts behind the end: %w", fs.ErrInvalid)
	}
	end := int64(len(o.bytes))
	if n >= 0 {
		end = min(end, off+n)
	}
	b := o.bytes[off:end]
	if o.wrong >= off && o.wrong < end {
		b = bytes.Clone(b)
		b[o.wrong-off] ^= 1
	}
	return &body{o: o, ctx: ctx, b: b, off: off, cut: o.cut, short: o.short, stall: o.stall, pace: o.pace, closed: make(chan struct{})}, off, size, nil
}

// body is one exchange's.
type body struct {
	o      *origin
	ctx    context.Context
	b      []byte
	off    int64
	read   int64
	cut    int64
	stall  int64
	short  bool
	pace   func(int64)
	once   sync.Once
	closed chan struct{}
}

var errCut = errors.New("connection reset by the test")

func (b *body) Read(p []byte) (int, error) {
	if b.pace != nil {
		b.pace(b.off + b.read)
	}
	select {
	case <-b.closed:
		return 0, fs.ErrClosed
	default:
	}
	if b.stall >= 0 && b.off+b.read >= b.stall {
		select {
		case <-b.closed:
			return 0, fs.ErrClosed
		case <-time.After(50 * time.Millisecond):
			return 0, os.ErrDeadlineExceeded
		}
	}
	if b.cut > 0 && b.read >= b.cut {
		if b.short {
			return 0, io.EOF
		}
		return 0, errCut
	}
	if int64(len(b.b)) == b.read {
		return 0, io.EOF
	}
	n := min(len(p), 64<<10, len(b.b)-int(b.read))
	if b.cut > 0 {
		n = min(n, int(b.cut-b.read))
	}
	if b.stall >= 0 {
		n = min(n, int(b.stall-b.off-b.read))
	}
	copy(p[:n], b.b[b.read:])
	b.read += int64(n)
	b.o.sent.Add(int64(n))
	return n, nil
}

func (b *body) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}
