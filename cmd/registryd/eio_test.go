package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hostlocal/cmd/testdeps/need"
	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

// These tests have the kernel refuse the daemon's calls on a blob's files, as a disk
// that fails does: strace answers them with an error in its place. What is asked is
// always the same: the client has the blob right, nothing wrong stands under its
// digest, it is counted, and when the disk works again so does the cache.

// A diskFault is a call that fails, on some of a blob's files.
type diskFault struct {
	calls   string // as strace has them
	on      func(f blobFiles) string
	present bool // the blob is complete on the disk before
	size    int64
	err     string // EIO unless said otherwise
	kept    bool   // the cache takes the blob all the same
	damaged bool   // it counts as a damaged file
	lasting bool   // the file can not be removed either, and is let be for a minute
}

// blobFiles are the names that a blob has in a cache.
type blobFiles struct{ partial, partialMap, blob, shard string }

func (f blobFiles) isPartial() string { return f.partial }
func (f blobFiles) isMap() string     { return f.partialMap }
func (f blobFiles) isNewMap() string  { return f.partialMap + ".tmp" }
func (f blobFiles) isBlob() string    { return f.blob }
func (f blobFiles) isShard() string   { return f.shard }

const (
	large = 8 << 20
	small = 20 << 10

	renames = "?rename,?renameat,?renameat2"
	reads   = "read,pread64,sendfile,?splice"
)

var diskFaults = map[string]diskFault{
	"opening the partial file":      {calls: "openat", on: blobFiles.isPartial},
	"allocating it":                 {calls: "fallocate", on: blobFiles.isPartial},
	"writing it":                    {calls: "pwrite64", on: blobFiles.isPartial},
	"writing it, small":             {calls: "pwrite64", on: blobFiles.isPartial, size: small},
	"reading it back":               {calls: "pread64", on: blobFiles.isPartial},
	"sending what has landed":       {calls: "sendfile", on: blobFiles.isPartial, kept: true},
	"beginning the map":             {calls: "openat", on: blobFiles.isNewMap},
	"writing the map":               {calls: "write", on: blobFiles.isMap, kept: true},
	"truncating":                    {calls: "ftruncate", on: blobFiles.isPartial},
	"syncing the bytes":             {calls: "fsync", on: blobFiles.isPartial},
	"giving the name":               {calls: renames, on: blobFiles.isPartial},
	"syncing the name":              {calls: "fsync", on: blobFiles.isShard, kept: true},
	"opening a present file":        {calls: "openat", on: blobFiles.isBlob, present: true, kept: true},
	"reading a present file":        {calls: reads, on: blobFiles.isBlob, present: true, kept: true, damaged: true},
	"reading a present file, small": {calls: reads, on: blobFiles.isBlob, present: true, size: small, kept: true, damaged: true},
	"reading or removing one":       {calls: reads + "," + renames + ",unlinkat", on: blobFiles.isBlob, present: true, kept: true, damaged: true, lasting: true},
	"quota, opening":                {calls: "openat", on: blobFiles.isPartial, err: "EDQUOT"},
	"quota, allocating":             {calls: "fallocate", on: blobFiles.isPartial, err: "EDQUOT"},
	"quota, writing":                {calls: "pwrite64", on: blobFiles.isPartial, err: "EDQUOT"},
}

func TestFailingDisk(t *testing.T) {
	need.Binary(t, "strace")
	h := newHost(t)
	h.stop()
	p := h.launch()
	n := 0
	for name, fault := range diskFaults {
		n++
		image := h.up.AddImage("library/app", fmt.Sprint("v", n), h.up.Layer(max(fault.size, small)))
		if fault.size == 0 {
			image = h.up.AddImage("library/app", fmt.Sprint("v", n), h.up.Layer(large))
		}
		t.Run(name, func(t *testing.T) { h.failing(t, &p, fault, image) })
	}
}

// failing pulls the image's layer while the disk fails as it says, and then again. Another
// daemon may be p afterwards.
func (h *host) failing(t *testing.T, p **program, fault diskFault, image hubtest.Image) {
	layer := image.Layers[0]
	h.resolve(image.Name())
	if fault.present {
		check(t, h.resumed(image.Repo, layer))
		h.awaitKept(layer.Digest)
		// The writing to the bucket may have read it, of a small one into memory.
		h.await("nothing to be owed", func() bool {
			fi, err := os.Stat(filepath.Join(h.dir, pendingFile))
			return err == nil && fi.Size() == 0
		})
		h.stop()
		*p = h.launch()
	}
	ended := func(results ...string) (n float64) {
		for _, r := range results {
			n += h.counted("registryd_fills_total", "result="+strconv.Quote(r))
		}
		return n
	}
	damaged := h.damaged()
	failed, all := ended("storage", "passed"), ended("storage", "passed", "ok")
	end := inject(t, (*p).cmd.Process.Pid, fault.calls, cmp.Or(fault.err, "EIO"), fault.on(h.filesOf(layer.Digest)))
	for range 2 {
		if err := h.resumed(image.Repo, layer); err != nil {
			t.Errorf("while the disk fails: %v", err)
		}
	}
	if !fault.present {
		h.await("the end of the fill", func() bool { return ended("storage", "passed", "ok") > all })
	}
	if !fault.kept {
		h.await("the failure to be counted", func() bool { return ended("storage", "passed") > failed })
		if h.kept(layer.Digest) {
			t.Errorf("the file of %s was published", layer.Digest)
		}
	}
	if fault.damaged && h.damaged() == damaged {
		t.Error("the damage was not counted")
	}
	end()
	if fault.lasting {
		return
	}
	h.await("the cache to take the blob again", func() bool {
		check(t, h.resumed(image.Repo, layer))
		return h.kept(layer.Digest)
	})
	got, err := os.ReadFile(h.filesOf(layer.Digest).blob)
	check(t, err)
	check(t, layer.Digest.Verify(got))
	h.wantHit(image, layer.Digest)
}

// damaged is how many files the daemon has found wrong, gone or unreadable.
func (h *host) damaged() (n int) {
	h.Helper()
	m := regexp.MustCompile(`"damaged":\s*(\d+)`).FindStringSubmatch(h.adminText("/api/v1/status"))
	if m == nil {
		h.Fatal("the status says nothing of damaged files")
	}
	n, err := strconv.Atoi(m[1])
	check(h, err)
	return n
}

func (h *host) filesOf(d manifest.Digest) blobFiles {
	partial := filepath.Join(h.dir, "partial", string(d.Algorithm())+"-"+d.Hex())
	shard := filepath.Join(h.dir, "blobs", string(d.Algorithm()), d.Hex()[:2])
	return blobFiles{partial, partial + ".map", filepath.Join(shard, d.Hex()), shard}
}

// resumed gets a blob as the runtimes do: when the connection breaks they ask for the
// rest, a few times.
func (h *host) resumed(repo string, c hubtest.Content) error {
	sum, got := c.Digest.Algorithm().New(), int64(0)
	var err error
	for range 5 {
		var n int64
		n, err = h.rest(repo, c, got, sum)
		if got += n; err == nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("%d bytes of %d after five requests: %w", got, c.Size, err)
	}
	if d := c.Digest.Algorithm().Sum(sum); d != c.Digest || got != c.Size {
		return fmt.Errorf("%d bytes of %s came to a good end as those of %s", got, d, c.Digest)
	}
	return nil
}

// rest gets what follows the first got bytes.
func (h *host) rest(repo string, c hubtest.Content, got int64, sum io.Writer) (int64, error) {
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", h.url+"/v2/"+repo+"/blobs/"+c.Digest.String(), nil)
	if err != nil {
		return 0, err
	}
	want := http.StatusOK
	if got > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", got))
		want = http.StatusPartialContent
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		return 0, errors.New(resp.Status)
	}
	return io.Copy(sum, resp.Body)
}

// inject has the process's calls on path fail until end is called, which checks that
// there were any.
func inject(t *testing.T, pid int, calls, errno, path string) (end func()) {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command(need.Binary(t, "strace"), "-f", "-y", "-o", trace, "-P", path,
		"-e", "trace="+calls, "-e", "inject="+calls+":error="+errno, "-p", fmt.Sprint(pid))
	stderr, err := cmd.StderrPipe()
	check(t, err)
	check(t, cmd.Start())
	said := bufio.NewReader(stderr)
	line, err := said.ReadString('\n')
	if !strings.Contains(line, "attached") {
		rest, _ := io.ReadAll(said)
		cmd.Wait()
		if strings.Contains(line+string(rest), "ermitted") {
			need.Missing(t, "ptrace", "strace may not attach to a process here; run the tests where it may (a container needs --cap-add SYS_PTRACE)")
		}
		t.Fatalf("strace: %s%s%v", line, rest, err)
	}
	go io.Copy(io.Discard, said) // each new thread is said too
	return func() {
		t.Helper()
		check(t, cmd.Process.Signal(unix.SIGINT)) // it detaches, and dies of the signal
		ended := time.AfterFunc(startLimit, func() { cmd.Process.Kill() })
		cmd.Wait()
		ended.Stop()
		log, err := os.ReadFile(trace)
		check(t, err)
		if n := strings.Count(string(log), "(INJECTED)"); n == 0 {
			t.Errorf("no call of %s on %s failed: nothing was tested; strace saw\n%s", calls, path, log)
		}
	}
}
