package s3store

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hostlocal/manifest"
)

// tap stands between a Store and its Bucket: it counts what is sent, and does to
// it what a network would.
type tap struct {
	Bucket
	before func(op, key string) error                         // an error is the exchange's
	body   func(key string, body io.ReadCloser) io.ReadCloser // what becomes of a body that is read

	mu    sync.Mutex
	calls map[string]int
}

func (w *tap) sends(op, key string) error {
	w.mu.Lock()
	w.calls[op]++
	before := w.before
	w.mu.Unlock()
	if before != nil {
		return before(op, key)
	}
	return nil
}

// fault sets what happens to every exchange from now on.
func (w *tap) fault(before func(op, key string) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before = before
}

// count returns and forgets what was sent.
func (w *tap) count() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.calls
	w.calls = map[string]int{}
	return c
}

func (w *tap) Stat(ctx context.Context, key string) (Object, error) {
	if err := w.sends("stat", key); err != nil {
		return Object{}, err
	}
	return w.Bucket.Stat(ctx, key)
}

func (w *tap) Get(ctx context.Context, key string, off, n int64, ifMatch string) (io.ReadCloser, Object, error) {
	if err := w.sends("get", key); err != nil {
		return nil, Object{}, err
	}
	body, obj, err := w.Bucket.Get(ctx, key, off, n, ifMatch)
	if err == nil && w.body != nil {
		body = w.body(key, body)
	}
	return body, obj, err
}

func (w *tap) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, opt PutOptions) (string, error) {
	if err := w.sends("put", key); err != nil {
		return "", err
	}
	return w.Bucket.Put(ctx, key, body, size, opt)
}

func (w *tap) Delete(ctx context.Context, key string) error {
	if err := w.sends("delete", key); err != nil {
		return err
	}
	return w.Bucket.Delete(ctx, key)
}

func (w *tap) List(ctx context.Context, prefix, delimiter, after string, max int) (Page, error) {
	if err := w.sends("list", prefix); err != nil {
		return Page{}, err
	}
	return w.Bucket.List(ctx, prefix, delimiter, after, max)
}

func (w *tap) CreateMultipart(ctx context.Context, key string) (string, error) {
	if err := w.sends("create", key); err != nil {
		return "", err
	}
	return w.Bucket.CreateMultipart(ctx, key)
}

func (w *tap) UploadPart(ctx context.Context, key, id string, number int, body io.ReadSeeker, size int64) (string, error) {
	if err := w.sends("part", key); err != nil {
		return "", err
	}
	return w.Bucket.UploadPart(ctx, key, id, number, body, size)
}

func (w *tap) CopyPart(ctx context.Context, key, id string, number int, src, ifMatch string, off, n int64) (string, error) {
	if err := w.sends("copy", key); err != nil {
		return "", err
	}
	return w.Bucket.CopyPart(ctx, key, id, number, src, ifMatch, off, n)
}

func (w *tap) CompleteMultipart(ctx context.Context, key, id string, parts []Part, opt CompleteOptions) (string, error) {
	if err := w.sends("complete", key); err != nil {
		return "", err
	}
	return w.Bucket.CompleteMultipart(ctx, key, id, parts, opt)
}

func (w *tap) AbortMultipart(ctx context.Context, key, id string) error {
	if err := w.sends("abort", key); err != nil {
		return err
	}
	return w.Bucket.AbortMultipart(ctx, key, id)
}

// answers makes the error of a store that answers with the status.
func answers(status int) error {
	return newError(context.Background(), "test", "key", status, "", false, nil)
}

// noAnswer is a connection that broke.
func noAnswer() error { return answers(0) }

// A tester is a Store over a bucket, with verbs.
type tester struct {
	*testing.T
	*Store
	wire *tap
	dir  string // of the folder, if it is one
}

// overFolder returns a Store over an empty folder.
func overFolder(t *testing.T) *tester {
	dir := filepath.Join(t.TempDir(), "store")
	b, err := OpenBucket(t.Context(), Config{URL: "file://" + dir})
	if err != nil {
		t.Fatal(err)
	}
	h := over(t, b)
	h.dir = dir
	return h
}

func over(t *testing.T, b Bucket) *tester {
	w := &tap{Bucket: b, calls: map[string]int{}}
	s := New(w, Options{Mirror: true})
	s.grace = time.Millisecond
	t.Cleanup(func() { s.Close() })
	return &tester{T: t, Store: s, wire: w}
}

// blob makes size bytes that differ from place to place, and their digest.
func blob(size int) ([]byte, manifest.Digest) {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16)}).Read(b)
	return b, manifest.DigestOf(b)
}

func (h *tester) put(body []byte, d manifest.Digest) {
	h.Helper()
	if err := h.PutBlob(h.Context(), d, int64(len(body)), bytes.NewReader(body)); err != nil {
		h.Fatal(err)
	}
}

// read returns a range of a blob, as far as it came.
func (h *tester) read(d manifest.Digest, off, n int64) ([]byte, error) {
	h.Helper()
	body, from, _, err := h.OpenBlob(h.Context(), d, off, n)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if from != off {
		h.Errorf("asked from byte %d, got from %d", off, from)
	}
	return io.ReadAll(body)
}

func (h *tester) wantRead(d manifest.Digest, off, n int64, want []byte) {
	h.Helper()
	got, err := h.read(d, off, n)
	if err != nil {
		h.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		h.Fatalf("read %d bytes that are not the %d wanted", len(got), len(want))
	}
}

func (h *tester) wantCalls(want map[string]int) {
	h.Helper()
	if got := h.wire.count(); !maps.Equal(got, want) {
		h.Errorf("sent %v, want %v", got, want)
	}
}

func (h *tester) wantErr(err, want error) {
	h.Helper()
	if !errors.Is(err, want) {
		h.Fatalf("got %v, want %v", err, want)
	}
}

// plant writes an object past the Store.
func (h *tester) plant(key string, body []byte) {
	h.Helper()
	if _, err := h.wire.Bucket.Put(h.Context(), key, bytes.NewReader(body), int64(len(body)), PutOptions{}); err != nil {
		h.Fatal(err)
	}
}

// wantNoUploads demands that no parts lie about in the folder.
func (h *tester) wantNoUploads() {
	h.Helper()
	left, _ := filepath.Glob(filepath.Join(h.dir, tempUpload+"*"))
	if len(left) > 0 {
		h.Errorf("uploads were left behind: %v", left)
	}
}

func TestBlobsComeBack(t *testing.T) {
	for _, size := range []int{0, 1, 4096, maxSinglePut, maxSinglePut + 1, 2*minPart + 12345} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			h := overFolder(t)
			body, d := blob(size)
			h.put(body, d)
			h.wantRead(d, 0, -1, body)
			if got, err := h.StatBlob(t.Context(), d); err != nil || got != int64(size) {
				t.Errorf("StatBlob: %d, %v", got, err)
			}
			if size > 1000 {
				h.wantRead(d, 500, 100, body[500:600])
				h.wantRead(d, int64(size-10), 100, body[size-10:])
			}
			h.wantNoUploads()
		})
	}
}

func TestSHA512IsNative(t *testing.T) {
	h := overFolder(t)
	body, _ := blob(1000)
	d := manifest.MustDigest(fmt.Sprintf("sha512:%x", sha512.Sum512(body)))
	h.put(body, d)
	h.wantRead(d, 0, -1, body)
	if _, err := os.Stat(filepath.Join(h.dir, "docker/registry/v2/blobs/sha512", d.Hex()[:2], d.Hex(), "data")); err != nil {
		t.Error(err)
	}
}

func TestCallsAreFew(t *testing.T) {
	h := overFolder(t)
	body, d := blob(100_000)
	h.put(body, d)
	h.wantCalls(map[string]int{"stat": 1, "put": 1})
	h.put(body, d)
	h.wantCalls(map[string]int{"stat": 1})
	h.wantRead(d, 10, 1000, body[10:1010])
	h.wantCalls(map[string]int{"get": 1})

	large, ld := blob(2 * minPart)
	h.put(large, ld)
	h.wantCalls(map[string]int{"stat": 2, "create": 1, "part": 2, "complete": 1})

	for _, c := range []struct {
		repo  string
		size  int
		calls map[string]int
	}{
		{"team/app", 1000, map[string]int{"put": 2}},
		{"team/app", 1000, map[string]int{"put": 2, "stat": 1}}, // the bytes were there
		{"ghcr.io/owner/app", 2000, map[string]int{"put": 2, "stat": 1}},
		{"ghcr.io/owner/app", 2000, map[string]int{"put": 1, "stat": 1}}, // another host mirrored them
		{"team/app", len(body), map[string]int{"put": 2, "stat": 1}},
	} {
		body, d := blob(c.size)
		if err := h.PutManifest(t.Context(), c.repo, d, body); err != nil {
			t.Fatal(err)
		}
		h.wantCalls(c.calls)
	}
	if err := h.PutTag(t.Context(), "team/app", "v1", d); err != nil {
		t.Fatal(err)
	}
	h.wantCalls(map[string]int{"put": 2}) // with the manifest's: four for a push
	if got, err := h.Tag(t.Context(), "team/app", "v1"); err != nil || got != d {
		t.Errorf("Tag: %v, %v", got, err)
	}
	h.wantCalls(map[string]int{"get": 1})
	if got, err := h.Manifest(t.Context(), "team/app", d); err != nil || !bytes.Equal(got, body) {
		t.Errorf("Manifest: %d bytes, %v", len(got), err)
	}
	h.wantCalls(map[string]int{"get": 1})
}

func TestWhatIsNotThereIsAMiss(t *testing.T) {
	h := overFolder(t)
	_, d := blob(5)
	_, err := h.read(d, 0, -1)
	h.wantErr(err, fs.ErrNotExist)
	_, err = h.StatBlob(t.Context(), d)
	h.wantErr(err, fs.ErrNotExist)
	_, err = h.Tag(t.Context(), "team/app", "v1")
	h.wantErr(err, fs.ErrNotExist)
	_, err = h.Manifest(t.Context(), "team/app", d)
	h.wantErr(err, fs.ErrNotExist)
	for _, has := range []func(context.Context, string, manifest.Digest) (bool, error){h.HasLayer, h.HasManifest} {
		if ok, err := has(t.Context(), "team/app", d); ok || err != nil {
			t.Errorf("got %v, %v", ok, err)
		}
	}
	if ok, err := h.Exists(t.Context(), "team/app"); ok || err != nil {
		t.Errorf("Exists: %v, %v", ok, err)
	}
}

func TestNamesStayInTheirPlace(t *testing.T) {
	h := overFolder(t)
	body, d := blob(5)
	h.wire.count()
	for _, repo := range []string{"", ".", "..", "a/../b", "../../../etc", "/a", "a/", "a//b", "a/_manifests", "_layers", "a\x00b", `a\b`, "a/..", "é", strings.Repeat("a", 256)} {
		h.wantErr(h.LinkLayer(t.Context(), repo, d), fs.ErrNotExist)
		h.wantErr(h.PutManifest(t.Context(), repo, d, body), fs.ErrNotExist)
		h.wantErr(h.PutTag(t.Context(), repo, "v1", d), fs.ErrNotExist)
		if ok, err := h.Exists(t.Context(), repo); ok || err != nil {
			t.Errorf("Exists(%q): %v, %v", repo, ok, err)
		}
	}
	for _, tag := range []string{"", ".", "..", "a/b", "../x", "-x", "a\x00", strings.Repeat("t", 129)} {
		h.wantErr(h.PutTag(t.Context(), "team/app", tag, d), fs.ErrNotExist)
		_, err := h.Tag(t.Context(), "team/app", tag)
		h.wantErr(err, fs.ErrNotExist)
	}
	h.wantCalls(map[string]int{})
}

func TestLinksThatSayNothingAreMisses(t *testing.T) {
	h := overFolder(t)
	for _, content := range []string{"", "sha256:", "nonsense", strings.Repeat("x", 100_000)} {
		h.plant(reposRoot+"team/app/_manifests/tags/v1/current/link", []byte(content))
		_, err := h.Tag(t.Context(), "team/app", "v1")
		h.wantErr(err, fs.ErrNotExist)
	}
	_, d := blob(5)
	h.plant(reposRoot+"team/app/_manifests/tags/v1/current/link", []byte(d.String()+"\n"))
	if got, err := h.Tag(t.Context(), "team/app", "v1"); err != nil || got != d {
		t.Errorf("a link with a newline: %v, %v", got, err)
	}
}

func TestContentOfALinkIsFollowed(t *testing.T) {
	h := overFolder(t)
	body, at := blob(1000)
	d := manifest.MustDigest(fmt.Sprintf("sha512:%x", sha512.Sum512(body)))
	h.put(body, at)
	h.plant(reposRoot+"team/app/_layers/sha512/"+d.Hex()+"/link", []byte(at.String())) // as registry:3 does
	if ok, err := h.HasLayer(t.Context(), "team/app", d); !ok || err != nil {
		t.Fatal(ok, err)
	}
	h.wantRead(d, 0, -1, body)
}

func TestWrongManifestIsNotReturnedAndIsReplaced(t *testing.T) {
	h := overFolder(t)
	body, d := blob(1000)
	h.plant(blobKey(d), append([]byte("x"), body[1:]...)) // of the right length
	_, err := h.Manifest(t.Context(), "team/app", d)
	h.wantErr(err, manifest.ErrMismatch)
	h.wire.count()
	if err := h.PutManifest(t.Context(), "team/app", d, body); err != nil {
		t.Fatal(err)
	}
	h.wantCalls(map[string]int{"stat": 1, "put": 2}) // that it would be refused is known
	if got, err := h.Manifest(t.Context(), "team/app", d); err != nil || !bytes.Equal(got, body) {
		t.Error(err)
	}
	h.wantErr(h.PutManifest(t.Context(), "team/app", d, body[1:]), manifest.ErrMismatch)

	h.plant(blobKey(d), body[1:]) // nobody has read it
	h.wire.count()
	if err := h.PutManifest(t.Context(), "team/app", d, body); err != nil {
		t.Fatal(err)
	}
	h.wantCalls(map[string]int{"put": 3, "stat": 1}) // refused, looked at, replaced, linked
	if got, err := h.Manifest(t.Context(), "team/app", d); err != nil || !bytes.Equal(got, body) {
		t.Error(err)
	}

	h.plant(blobKey(d), make([]byte, manifest.MaxSize+1))
	_, err = h.Manifest(t.Context(), "team/app", d)
	h.wantErr(err, manifest.ErrMismatch)
}

func TestWithoutMirrorUpstreamsRepositoriesAreNotWritten(t *testing.T) {
	h := overFolder(t)
	h.opt.Mirror = false
	body, d := blob(10)
	h.wantErr(h.PutManifest(t.Context(), "ghcr.io/owner/app", d, body), ErrReadOnly)
	h.wantErr(h.PutTag(t.Context(), "localhost:5000/app", "v1", d), ErrReadOnly)
	h.wantErr(h.LinkLayer(t.Context(), "ghcr.io/owner/app", d), ErrReadOnly)
	h.wantCalls(map[string]int{})
	if err := h.PutTag(t.Context(), "team/app", "v1.2", d); err != nil {
		t.Error(err)
	}
}
