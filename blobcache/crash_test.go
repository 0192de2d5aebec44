package blobcache

import (
	"bytes"
	"errors"
	"flag"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hostlocal/cmd/testdeps/need"
)

var crashes = flag.Int("crashes", 0, "how many power losses TestPowerLoss tries; 0 means 100, or 40 with -short")

// powerCacheDir names, in the environment of a test process started again under strace,
// the folder in which it is to live a life.
const powerCacheDir = "BLOBCACHE_TEST_POWER_CACHE"

// powerBudget is less than the blobs of powerLife take together.
const powerBudget = 2 * mib

// powerBlobs are the blobs of powerLife: with and without a map, pulled and put.
func powerBlobs() (all []*origin) {
	for i, size := range []int64{10, 5000, 100_000, 300_000, 700_000, mib, 400_000, 30_000} {
		o := newOrigin(size, 5000+uint64(i))
		o.part, o.parallel = 256<<10, 2
		all = append(all, o)
	}
	return all
}

// powerLife fills, publishes, puts, sends, removes, evicts, breaks off and goes on.
func powerLife(h *tester) {
	blobs := powerBlobs()
	for round := range 3 {
		for i, o := range blobs {
			switch {
			case i%4 == 3 && round > 0:
				err := h.Put(o.digest, bytes.NewReader(o.bytes), int64(len(o.bytes)))
				if err != nil && !errors.Is(err, ErrNoRoom) { // of which fills that are being published have much
					h.Fatal(err)
				}
			case i%4 == 1 && round > 0:
				h.push(i, o)
			case i == 4 && round == 1: // broken off: a partial file stays behind for the next round
				if err := h.Remove(o.digest); err != nil {
					h.Fatal(err)
				}
				o.cut = 200 << 10 // of each body, and then nobody answers
				o.pace = func(off int64) {
					if off > 100<<10 {
						o.with(func(o *origin) { o.err = errCut })
					}
				}
				if _, err := h.pull(o); err == nil {
					h.Fatal("a source that breaks off had it all")
				}
				o.with(func(o *origin) { o.pace, o.err, o.cut = nil, nil, 0 })
			default:
				got, err := h.pull(o)
				h.wantRight(o, got, err)
			}
		}
		if err := h.Remove(blobs[round].digest); err != nil {
			h.Fatal(err)
		}
	}
}

// push sends a blob in two pieces as upload n.
func (h *tester) push(n int, o *origin) {
	h.Helper()
	if err := h.Remove(o.digest); err != nil {
		h.Fatal(err)
	}
	h.leaveUpload(n, o.bytes[:len(o.bytes)/3])
	u := h.openUpload(n)
	h.send(u, o.bytes[len(o.bytes)/3:])
	if err := u.Commit(o.digest); err != nil {
		h.Fatal(err)
	}
}

// TestPowerLoss has a cache live under strace, loses the power behind some call or
// other, and starts a cache on what a disk may have kept by then: anything that was not
// synced may be missing, in any order. What was published is there; and whatever is
// there, nobody gets a wrong byte.
func TestPowerLoss(t *testing.T) {
	if dir := os.Getenv(powerCacheDir); dir != "" {
		h := &tester{TB: t, dir: dir, results: make(chan string, 1000)}
		h.opt = Options{Budget: powerBudget, ScrubRate: -1, Log: slog.New(slog.DiscardHandler)}
		h.start()
		powerLife(h)
		h.Close()
		return
	}
	disk := traceLife(t)
	blobs := powerBlobs()
	contents := map[*inode][]byte{}
	for _, c := range disk.calls {
		for _, o := range blobs {
			if c.kind == linked && c.target != nil && (c.name == o.digest.Hex() || c.name == partialName(o.digest)) {
				contents[c.target] = o.bytes
			}
		}
	}
	boot := bootID
	defer func() { bootID = boot }()
	bootID = func() string { return "the boot after the power loss" }
	n := *crashes
	if n == 0 {
		n = 100
		if testing.Short() {
			n = 40
		}
	}
	durable := 0
	for seed := range n {
		rnd := rand.New(rand.NewPCG(uint64(seed), 17))
		at, journal := 1+rnd.IntN(len(disk.calls)), seed%2 == 0
		dir := filepath.Join(t.TempDir(), "cache")
		disk.crash(t, dir, at, journal, rnd, contents)
		here := disk.published(at, blobs)
		durable += len(here)
		afterPowerLoss(t, dir, blobs, here, journal)
		if t.Failed() {
			t.Fatalf("crash %d, behind call %d of %d", seed, at, len(disk.calls))
		}
		os.RemoveAll(dir)
	}
	t.Logf("%d calls, %d crashes, %d blobs were durable in them", len(disk.calls), n, durable)
	if durable == 0 {
		t.Error("no crash came after a blob was published")
	}
}

// traceLife returns what powerLife asked of the disk.
func traceLife(t *testing.T) *crashDisk {
	strace := need.Binary(t, "strace")
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	root, trace := filepath.Join(dir, "cache"), filepath.Join(dir, "trace")
	// A name, a map's header and the mark fit in these many bytes; those of blobs are
	// known.
	cmd := exec.Command(strace, "-f", "-xx", "-s", "400", "-o", trace, "-e", "signal=none",
		"-e", "trace=openat,close,write,pwrite64,ftruncate,fchmod,utimes,utimensat,futimesat,fsync,renameat,unlinkat,mkdirat",
		os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), powerCacheDir+"="+root)
	if out, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "ptrace") {
			need.Missing(t, "ptrace", "strace may not trace a process here; run the tests where it may (a container needs --cap-add SYS_PTRACE)")
		}
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	return readTrace(t, string(b), root)
}

// published returns the blobs that were published for good within the first n calls:
// whose folder was synced behind the naming, and that nobody has removed since.
func (d *crashDisk) published(n int, blobs []*origin) (here []*origin) {
	sure := d.durable(n)
	for _, o := range blobs {
		is := false
		for at, c := range d.calls[:n] {
			if c.kind == linked && c.name == o.digest.Hex() {
				is = c.target != nil && at < sure[c.in]
			}
		}
		if is {
			here = append(here, o)
		}
	}
	return here
}

// afterPowerLoss starts a cache in dir. here are the blobs that it must have.
func afterPowerLoss(t *testing.T, dir string, blobs, here []*origin, journal bool) {
	t.Helper()
	h := &tester{TB: t, dir: dir, results: make(chan string, 1000)}
	h.opt = Options{Budget: powerBudget, ScrubRate: -1, Log: slog.New(slog.DiscardHandler)}
	if mark := h.markOnDisk(); journal && mark < h.du()-ownFiles-foldersAtStart {
		t.Errorf("the mark says %d bytes, and %d are there", mark, h.du())
	}
	h.start()
	defer h.Close()
	for _, o := range here {
		opens := o.opens.Load()
		got, err := h.pull(o)
		h.wantRight(o, got, err)
		if o.opens.Load() != opens {
			t.Errorf("%s, of %d bytes, had been published, and was fetched", o.digest, len(o.bytes))
		}
	}
	for _, o := range blobs {
		got, err := h.pull(o)
		h.wantRight(o, got, err)
		if t.Failed() {
			return
		}
	}
	wantOnlyRightFiles(t, dir)
}

// foldersAtStart is what the folders take that each start makes before it has a mark.
const foldersAtStart = 8 * block
