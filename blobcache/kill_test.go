package blobcache

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
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

var kills = flag.Int("kills", 0, "how often TestKilledAtAnyMoment kills the cache; 0 means 1000, or 60 with -short")

// killedCacheDir names, in the environment of a test process started again, the folder
// that it is to fill until it is killed.
const killedCacheDir = "BLOBCACHE_TEST_KILLED_CACHE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedCacheDir); dir != "" {
		fillUntilKilled(dir, os.Getenv(killedCacheDir+"_URL"), os.Getenv(killedCacheDir+"_PUSHES") != "")
	}
	os.Exit(m.Run())
}

// killBlobs are the lengths of the blobs of the test: some land whole in one
// write, some in several fetches, and all together they do not fit.
var killBlobs = []int64{10, 5000, 100_000, mib, 3*mib + 1, 9 * mib, 20 * mib, 20*mib + 5}

const killBudget = 40 * mib

// fillUntilKilled pulls the blobs in turn, and pushes them as well if pushes is set,
// evicting as it goes, for ever.
func fillUntilKilled(dir, url string, pushes bool) {
	c, err := New(dir, Options{Budget: killBudget, ScrubRate: -1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	var ds []manifest.Digest
	var sizes []int64
	for _, s := range strings.Fields(os.Getenv(killedCacheDir + "_BLOBS")) {
		d, size, _ := strings.Cut(s, "=")
		n, err := strconv.ParseInt(size, 10, 64)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		ds, sizes = append(ds, manifest.MustDigest(d)), append(sizes, n)
	}
	c.Resume(func(d manifest.Digest, _ string, _ int64) []Source { return []Source{web{url, d}} })
	rnd := rand.New(rand.NewPCG(uint64(os.Getpid()), 1))
	for {
		i := rnd.IntN(len(ds))
		if pushes && rnd.IntN(4) == 0 {
			pushUntilKilled(c, i, sizes[i], web{url, ds[i]})
			continue
		}
		b, err := c.Get(context.Background(), ds[i], Want{Size: sizes[i], Sources: []Source{web{url, ds[i]}}})
		if err != nil {
			continue
		}
		h := manifest.SHA256.New()
		err = b.CopyRange(context.Background(), h, 0, -1)
		b.Close()
		if err == nil && manifest.SHA256.Sum(h) != ds[i] {
			fmt.Fprintf(os.Stderr, "a whole pull of %s had wrong bytes\n", ds[i])
			os.Exit(4)
		}
		if len(ds) > 1 && rnd.IntN(3) == 0 {
			c.Remove(ds[i])
		}
	}
}

// pushUntilKilled sends the i-th blob, or the rest of it if an earlier life was killed
// in the middle.
func pushUntilKilled(c *Cache, i int, size int64, from web) {
	u, err := c.OpenUpload(uploadOf(i))
	if err != nil {
		u, err = c.NewUpload(uploadOf(i))
	}
	if err == nil && u.Size() > size {
		fmt.Fprintf(os.Stderr, "%d bytes of %s are left\n", u.Size(), from.d)
		os.Exit(5)
	}
	if err == nil && u.Size() < size {
		var body io.ReadCloser
		if body, _, _, err = from.Open(context.Background(), u.Size(), -1); err == nil {
			_, err = u.ReadFrom(body)
			body.Close()
		}
	}
	switch {
	case u == nil:
	case err != nil:
		u.Abort() // no room, mostly
	default:
		if err := u.Commit(from.d); errors.Is(err, manifest.ErrMismatch) {
			fmt.Fprintf(os.Stderr, "an upload in several lives: %v\n", err)
			os.Exit(6)
		}
	}
}

// web is a source over HTTP: the killed process's way to the test's blobs.
type web struct {
	url string
	d   manifest.Digest
}

func (w web) Name() string            { return "upstream" }
func (w web) Plan(int64) (int64, int) { return 4 * mib, 3 }
func (w web) Patience() time.Duration { return time.Second }

func (w web) Open(ctx context.Context, off, n int64) (io.ReadCloser, int64, int64, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", w.url+"/"+w.d.String(), nil)
	if err != nil {
		return nil, 0, 0, err
	}
	if n >= 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	} else if off > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", off))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, 0, 0, err
	}
	size := resp.ContentLength
	if _, after, ok := strings.Cut(resp.Header.Get("Content-Range"), "/"); ok {
		size, _ = strconv.ParseInt(after, 10, 64)
	}
	if resp.StatusCode/100 != 2 {
		resp.Body.Close()
		return nil, 0, 0, fmt.Errorf("status %s", resp.Status)
	}
	return resp.Body, off, size, nil
}

// TestKilledAtAnyMoment kills a process that fills, publishes, evicts and starts,
// again and again, and looks at what it leaves: no file under a digest that is not
// its own, no more than the budget, and in the end all can be pulled.
func TestKilledAtAnyMoment(t *testing.T) {
	n := *kills
	if n == 0 {
		n = 1000
		if testing.Short() {
			n = 60
		}
	}
	blobs := map[string][]byte{}
	var names, sized []string
	for i, size := range killBlobs {
		o := newOrigin(size, uint64(7000+i))
		blobs["/"+o.digest.String()] = o.bytes
		names = append(names, o.digest.String())
		sized = append(sized, fmt.Sprintf("%s=%d", o.digest, size))
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blobs[r.URL.Path]))
	}))
	t.Cleanup(srv.Close) // when both are through
	// A life waits as much as it works: two caches take their turns together.
	const caches = 2
	for i := range caches {
		t.Run(fmt.Sprint("cache ", i), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "cache")
			killAgainAndAgain(t, n/caches, dir, append(os.Environ(), killedCacheDir+"="+dir, killedCacheDir+"_URL="+srv.URL,
				killedCacheDir+"_BLOBS="+strings.Join(sized, " "), killedCacheDir+"_PUSHES=1"))
			wantAllAfterKills(t, dir, srv.URL, blobs, names)
		})
	}
}

// killAgainAndAgain starts the process n times and kills it at a random moment,
// looking at the folder between.
func killAgainAndAgain(t *testing.T, n int, dir string, env []string) {
	t.Helper()
	var stderr bytes.Buffer
	// Starting takes some 10 ms, a large blob 50. On a busy machine and under the
	// race detector it is more, and lives grow until one gets to publishing.
	longest := 80 * time.Millisecond
	published := false
	for i := 0; i < n || !published && i < 2*n; i++ {
		cmd := exec.Command(os.Args[0])
		cmd.Env, cmd.Stderr = env, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(longest))))
		cmd.Process.Kill()
		if err := cmd.Wait(); cmd.ProcessState.Exited() {
			t.Fatalf("life %d ended by itself: %v: %s", i, err, stderr.String())
		}
		if i%20 == 0 || i >= n-1 {
			wantOnlyRightFiles(t, dir)
		}
		if !published { // none later may mean that all were removed
			found, _ := filepath.Glob(filepath.Join(dir, "blobs", "*", "*", "*"))
			published = len(found) > 0
			if !published && i%5 == 4 {
				longest = min(2*longest, 2*time.Second)
			}
		}
	}
	if !published {
		t.Error("no life got as far as publishing: this test tested nothing")
	}
}

// wantAllAfterKills starts the cache as usual: what lies there is accounted for, and
// every blob can be pulled.
func wantAllAfterKills(t *testing.T, dir, url string, blobs map[string][]byte, names []string) {
	t.Helper()
	h := &tester{TB: t, dir: dir, results: make(chan string, 1000)}
	h.opt = Options{Budget: killBudget, ScrubRate: -1, Log: slog.New(slog.DiscardHandler)}
	h.start()
	defer h.Close()
	h.awaitScan()
	h.wantLedgerRight()
	t.Logf("the last life left %d uploads", h.Stats().Uploads)
	h.ExpireUploads(0, time.Now().Add(time.Hour))
	h.wantUploads(0)
	h.wantLedgerRight()
	for i, s := range names {
		d := manifest.MustDigest(s)
		b, err := h.Get(t.Context(), d, Want{Size: killBlobs[i], Sources: []Source{web{url, d}}})
		if err != nil {
			t.Fatal(err)
		}
		c := &comparer{want: blobs["/"+s]}
		if err := b.CopyRange(t.Context(), c, 0, -1); err != nil || c.n != killBlobs[i] {
			t.Errorf("after all kills: %d bytes of %d, %v", c.n, killBlobs[i], err)
		}
		b.Close()
	}
}

// wantOnlyRightFiles hashes all that lies under blobs/, seal or not.
func wantOnlyRightFiles(t *testing.T, dir string) {
	t.Helper()
	var total int64
	err := filepath.WalkDir(filepath.Join(dir, blobsDir), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		total += int64(len(b))
		if got := manifest.DigestOf(b).Hex(); got != filepath.Base(path) {
			t.Errorf("%s has the bytes of %s", path, got)
		}
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if total > killBudget {
		t.Errorf("%d bytes of blobs in a budget of %d", total, killBudget)
	}
}

// TestKilledFillCostsNothingTwice kills a process in the middle of one large fill
// and counts what the next one asks for.
func TestKilledFillCostsNothingTwice(t *testing.T) {
	o := newOrigin(20*mib, 7100)
	const middle = 12 * mib
	var sent atomic.Int64
	killed := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Accept-Encoding")
		http.ServeContent(&counting{w, func(n int) {
			if sent.Add(int64(n)) <= middle {
				return
			}
			select {
			case <-killed: // this is the second life's
			default:
				<-killed
				panic(http.ErrAbortHandler)
			}
		}}, r, "", time.Time{}, bytes.NewReader(o.bytes))
	}))
	defer srv.Close()
	free := sync.OnceFunc(func() { close(killed) })
	defer free()
	dir := filepath.Join(t.TempDir(), "cache")
	await := (&tester{TB: t}).await
	// Three fetches have not noted what they landed last.
	noted := func() bool {
		_, landed, _ := readMap(filepath.Join(dir, partialDir, partialName(o.digest)+mapSuffix))
		return landed.sum() >= middle-3*(mapStep+64<<10)
	}
	published := func() bool {
		_, err := os.Stat((&Cache{blobs: filepath.Join(dir, blobsDir)}).blobPath(o.digest))
		return err == nil
	}
	for life := range 2 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killedCacheDir+"="+dir, killedCacheDir+"_URL="+srv.URL,
			fmt.Sprintf("%s_BLOBS=%s=%d", killedCacheDir, o.digest, len(o.bytes)))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Process.Kill()
		await(fmt.Sprint("what is to be of life ", life), []func() bool{noted, published}[life])
		cmd.Process.Kill()
		if err := cmd.Wait(); cmd.ProcessState.Exited() {
			t.Fatalf("life %d ended by itself: %v: %s", life, err, stderr.String())
		}
		free()
	}
	// What was under way in each of three fetches is lost: what counts is that the
	// twelve MiB were not asked for again.
	if limit := int64(20*mib + 3*mapStep + mib); sent.Load() > limit {
		t.Errorf("two lives were sent %d bytes for a blob of %d", sent.Load(), len(o.bytes))
	}
}

// counting is a response writer that tells how much was written.
type counting struct {
	http.ResponseWriter
	wrote func(int)
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.wrote(n)
	return n, err
}
