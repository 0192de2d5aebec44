package s3store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hostlocal/s3store"
)

// inFolder is a tester over a folder, and the folder.
func inFolder(t *testing.T) (*tester, string) {
	dir := filepath.Join(t.TempDir(), "store")
	return &tester{T: t, ctx: context.Background(), b: mustOpen(t, s3store.Config{URL: "file://" + dir})}, dir
}

func TestFolderHoldsPlainFiles(t *testing.T) {
	h, dir := inFolder(t)
	h.mustPut("docker/registry/v2/blobs/x/data", blob)
	got, err := os.ReadFile(filepath.Join(dir, "docker/registry/v2/blobs/x/data"))
	if err != nil || !bytes.Equal(got, blob) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	// And what another program puts there is an object.
	if err := os.WriteFile(filepath.Join(dir, "docker/other"), []byte("theirs"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.want("docker/other", []byte("theirs"))
}

func TestFolderLeavesNoTempFiles(t *testing.T) {
	h, dir := inFolder(t)
	h.put("a", blob, s3store.PutOptions{IfNoneMatch: true})
	h.put("a", blob, s3store.PutOptions{IfNoneMatch: true})
	h.put("a", blob, s3store.PutOptions{IfMatch: "other"})
	h.put("a", blob, s3store.PutOptions{SHA256: strings.Repeat("0", 64)})
	h.b.Put(h.ctx, "a", bytes.NewReader(nil), 1, s3store.PutOptions{})
	id, parts := h.upload("b", blob)
	if _, err := h.b.CompleteMultipart(h.ctx, "b", id, parts, s3store.CompleteOptions{}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, ".registryd-tmp"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "lock-") {
			t.Errorf("left: %s", e.Name())
		}
	}
}

func TestFolderSweepsOldTempFilesOnly(t *testing.T) {
	h, dir := inFolder(t)
	tmp := filepath.Join(dir, ".registryd-tmp")
	old := time.Now().Add(-100 * time.Hour)
	for name, keep := range map[string]bool{"put-old": false, "upload-old/part": false, "put-new": true, "lock-07": true, "foreign": true} {
		path := filepath.Join(tmp, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if name != "put-new" {
			os.Chtimes(path, old, old)
			os.Chtimes(filepath.Dir(path), old, old)
		}
		defer func() {
			if _, err := os.Stat(path); (err == nil) != keep {
				t.Errorf("%s: %v", name, err)
			}
		}()
	}
	h.mustPut("a", []byte("a"))
}

func TestFolderKeysDoNotEscape(t *testing.T) {
	h, dir := inFolder(t)
	outside := filepath.Join(filepath.Dir(dir), "outside")
	if err := os.WriteFile(outside, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	os.Symlink(outside, filepath.Join(dir, "link"))
	os.Symlink(filepath.Dir(dir), filepath.Join(dir, "up"))
	for _, key := range []string{"../outside", "link", "up/outside", ".registryd-tmp/lock-00"} {
		if data, _, err := h.get(key, 0, -1, ""); err == nil {
			t.Errorf("%s: %s", key, data)
		}
		h.put("up/new", []byte("x"), s3store.PutOptions{})
		if _, err := os.Stat(filepath.Join(filepath.Dir(dir), "new")); err == nil {
			t.Error("written outside")
		}
	}
	if data, _ := os.ReadFile(outside); string(data) != "secret" {
		t.Errorf("outside is %q now", data)
	}
}

func TestMissingFolderIsAnOutageNotAMiss(t *testing.T) {
	h, dir := inFolder(t)
	h.mustPut("a", []byte("a"))
	os.Rename(dir, dir+".away")
	_, _, err := h.get("a", 0, -1, "")
	if errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a miss: %v", err)
	}
	h.again(err, true)
	_, err = h.put("b", []byte("b"), s3store.PutOptions{})
	h.again(err, true)
	os.Rename(dir+".away", dir)
	h.want("a", []byte("a"))
}

func TestFolderReaderKeepsItsVersion(t *testing.T) {
	h, _ := inFolder(t)
	h.mustPut("a", blob)
	body, _, err := h.b.Get(h.ctx, "a", 0, -1, "")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	h.mustPut("a", make([]byte, len(blob)))
	if data, err := io.ReadAll(body); err != nil || !bytes.Equal(data, blob) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

func TestTruncatedFileEndsUnexpectedly(t *testing.T) {
	h, dir := inFolder(t)
	h.mustPut("a", blob)
	for name, read := range map[string]func(io.Reader) error{
		"Read":    func(r io.Reader) error { _, err := io.ReadAll(struct{ io.Reader }{r}); return err },
		"WriteTo": func(r io.Reader) error { _, err := r.(io.WriterTo).WriteTo(io.Discard); return err },
	} {
		body, _, err := h.b.Get(h.ctx, "a", 0, -1, "")
		if err != nil {
			t.Fatal(err)
		}
		os.Truncate(filepath.Join(dir, "a"), 1000)
		if err := read(body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
		body.Close()
		os.WriteFile(filepath.Join(dir, "a"), blob, 0o644)
	}
}

// Leases are rewritten many times within one tick of the file system's clock.
func TestFolderETagChangesWithEachContent(t *testing.T) {
	h, _ := inFolder(t)
	seen := map[string]bool{}
	for i := range 200 {
		seen[h.mustPut("lease", []byte{'n', byte(i), byte(i >> 8)})] = true
	}
	if len(seen) != 200 {
		t.Errorf("%d ETags of 200 contents", len(seen))
	}
}

func TestWaitingForALockEndsWithTheContext(t *testing.T) {
	h, dir := inFolder(t)
	h.mustPut("a", []byte("a"))
	defer holdLocks(t, filepath.Join(dir, ".registryd-tmp"))()
	ctx, cancel := context.WithTimeout(h.ctx, 50*time.Millisecond)
	defer cancel()
	_, err := h.b.Put(ctx, "a", strings.NewReader("b"), 1, s3store.PutOptions{})
	h.wantErr(err, context.DeadlineExceeded)
	h.want("a", []byte("a"))
}
