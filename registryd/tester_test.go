package registryd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hostlocal/manifest"
)

// TestMain demands that the package's tests leave no goroutine behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if tr, ok := http.DefaultTransport.(*http.Transport); ok {
		tr.CloseIdleConnections()
	}
	if code == 0 {
		if left := leftover(5 * time.Second); left != "" {
			fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+left)
			code = 1
		}
	}
	os.Exit(code)
}

// leftover returns the stacks of this module's goroutines that are still there
// after the limit.
func leftover(limit time.Duration) string {
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		buf := make([]byte, 1<<20)
		var ours []string
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if (strings.Contains(g, "hostlocal/") || strings.Contains(g, "net/http")) && !strings.Contains(g, "TestMain") {
				ours = append(ours, g)
			}
		}
		if len(ours) == 0 {
			return ""
		}
		if time.Now().After(end) {
			return strings.Join(ours, "\n\n")
		}
	}
}

// fakeContents is a registry of one's own making.
type fakeContents struct {
	writing // of the tests that push: nobody else calls it

	mu        sync.Mutex
	manifests map[string]Answer // by "name:tag" and "name@digest"
	blobs     map[manifest.Digest]func(off int64) (hold, error)
	tags      []string
	referrers []manifest.Descriptor
	err       error // answers everything, if set
	ns        []string

	opened atomic.Int64 // calls of Blob
	held   atomic.Int64 // holds that are not closed
}

func (f *fakeContents) Resolve(_ context.Context, path, ns string) (Repository, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ns = append(f.ns, ns)
	if f.err != nil {
		return Repository{}, f.err
	}
	if ns != "" && ns != "docker.io" {
		return Repository{}, fmt.Errorf("%w: %s", manifest.ErrRegistry, ns)
	}
	if !manifest.ValidRepository(path) {
		return Repository{}, fmt.Errorf("%w: %q", manifest.ErrName, path)
	}
	return Repository{Name: manifest.Name{Host: ns, Path: path}}, nil
}

func (f *fakeContents) Manifest(_ context.Context, repo Repository, ref Ref, _ bool) (Answer, error) {
	key := repo.Name.Path + ":" + ref.Tag
	if ref.Tag == "" {
		key = repo.Name.Path + "@" + ref.Digest.String()
	}
	a, ok := f.manifests[key]
	if !ok {
		return a, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	}
	return a, nil
}

func (f *fakeContents) blob(d manifest.Digest) (open func(int64) (hold, error), ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	open, ok = f.blobs[d]
	return open, ok
}

func (f *fakeContents) setBlob(d manifest.Digest, open func(int64) (hold, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blobs[d] = open
}

func (f *fakeContents) Blob(_ context.Context, _ Repository, d manifest.Digest, off int64, ranged bool) (hold, error) {
	f.opened.Add(1)
	open, ok := f.blob(d)
	if !ok {
		return nil, fmt.Errorf("%s: %w", d, fs.ErrNotExist)
	}
	b, err := open(off)
	if err != nil {
		return nil, err
	}
	f.held.Add(1)
	return &countedHold{b, f}, nil
}

func (f *fakeContents) StatBlob(ctx context.Context, repo Repository, d manifest.Digest) (int64, string, error) {
	open, ok := f.blob(d)
	if !ok {
		return 0, "", fmt.Errorf("%s: %w", d, fs.ErrNotExist)
	}
	b, err := open(0)
	if err != nil {
		return 0, "", err
	}
	defer b.Close()
	return b.Size(), b.Source(), nil
}

func (f *fakeContents) Tags(_ context.Context, _ Repository, n int, last string) ([]string, bool, error) {
	i := 0
	for i < len(f.tags) && f.tags[i] <= last {
		i++
	}
	rest := f.tags[i:]
	return rest[:min(n, len(rest))], len(rest) > n, nil
}

func (f *fakeContents) Catalog(ctx context.Context, n int, last string) ([]string, bool, error) {
	return f.Tags(ctx, Repository{}, n, last)
}

func (f *fakeContents) Referrers(context.Context, Repository, manifest.Digest) (Referrals, error) {
	return Referrals{List: f.referrers, Source: SourceStore}, nil
}

type countedHold struct {
	hold
	f *fakeContents
}

func (c *countedHold) Close() error {
	c.f.held.Add(-1)
	return c.hold.Close()
}

// fileHold is a blob that is complete.
type fileHold struct {
	f    *os.File
	size int64
}

func (h *fileHold) Bytes() []byte  { return nil }
func (h *fileHold) File() *os.File { return h.f }
func (h *fileHold) Size() int64    { return h.size }
func (h *fileHold) Source() string { return SourceDisk }
func (h *fileHold) Close() error   { return h.f.Close() }
func (h *fileHold) CopyRange(context.Context, io.Writer, int64, int64) error {
	return errors.New("a complete blob is served from its file")
}

// memoryHold is a blob that is complete and small.
type memoryHold []byte

func (h memoryHold) Bytes() []byte  { return h }
func (h memoryHold) File() *os.File { return nil }
func (h memoryHold) Size() int64    { return int64(len(h)) }
func (h memoryHold) Source() string { return SourceDisk }
func (h memoryHold) Close() error   { return nil }
func (h memoryHold) CopyRange(context.Context, io.Writer, int64, int64) error {
	return errors.New("a blob in memory is served from there")
}

// fillHold is a blob that lands while it is read: as much of body as allowed, then
// err. gate, if there is one, is waited for after the headers' flush.
type fillHold struct {
	body  []byte
	size  int64
	until int64 // bytes of the blob that land before err
	err   error
	gate  chan struct{}
}

func (h *fillHold) Bytes() []byte  { return nil }
func (h *fillHold) File() *os.File { return nil }
func (h *fillHold) Size() int64    { return h.size }
func (h *fillHold) Source() string { return SourceFill }
func (h *fillHold) Close() error   { return nil }
func (h *fillHold) CopyRange(ctx context.Context, w io.Writer, off, n int64) error {
	if h.gate != nil {
		w.(http.Flusher).Flush()
		select {
		case <-h.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	end := int64(len(h.body))
	if n >= 0 {
		end = min(end, off+n)
	}
	if h.err != nil {
		end = min(end, h.until)
	}
	if end > off {
		if _, err := io.CopyN(w, bytes.NewReader(h.body[off:end]), end-off); err != nil {
			return err
		}
	}
	return h.err
}

// A tester is a server with a fakeContents behind it, over real sockets.
type tester struct {
	testing.TB
	*fakeContents
	handler *Handler
	server  *Server
	base    string
	dir     string
	client  *http.Client
	served  chan error // what Serve returned
}

func newTester(t testing.TB, o HandlerOptions) *tester {
	t.Helper()
	f := &fakeContents{manifests: map[string]Answer{}, blobs: map[manifest.Digest]func(int64) (hold, error){}}
	h := serve(t, newHandler(f, o))
	h.fakeContents, h.dir = f, t.TempDir()
	t.Cleanup(func() {
		h.shutdown()
		if n := f.held.Load(); n != 0 {
			t.Errorf("%d holds on blobs were not closed", n)
		}
	})
	return h
}

// serve starts a server for a handler of any kind; opts change it before.
func serve(t testing.TB, handler *Handler, opts ...func(*Server)) *tester {
	t.Helper()
	h := &tester{TB: t, handler: handler, server: NewServer(handler, nil), served: make(chan error, 1)}
	h.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.base = "http://" + l.Addr().String()
	for _, o := range opts {
		o(h.server)
	}
	go func() { h.served <- h.server.Serve(l) }()
	return h
}

// shutdown ends the server.
func (h *tester) shutdown() {
	h.Helper()
	h.client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // a disk may be slow
	defer cancel()
	if err := h.server.Shutdown(ctx); err != nil {
		h.Errorf("shutdown: %v", err)
	}
	if err := <-h.served; err != nil {
		h.Errorf("serve: %v", err)
	}
}

// manifest adds one under a tag and its digest.
func (h *tester) manifest(name, tag, body string) manifest.Digest {
	d := manifest.DigestOf([]byte(body))
	a := Answer{Manifest: &manifest.Manifest{Digest: d, MediaType: manifest.OCIManifest, Body: []byte(body)}, Size: int64(len(body)), Source: SourceDisk}
	h.manifests[name+":"+tag], h.manifests[name+"@"+d.String()] = a, a
	return d
}

// file adds a blob that is complete, and returns its path too.
func (h *tester) file(body []byte) (manifest.Digest, string) {
	d := manifest.DigestOf(body)
	path := filepath.Join(h.dir, d.Hex())
	if err := os.WriteFile(path, body, 0o444); err != nil {
		panic(err)
	}
	h.setBlob(d, func(int64) (hold, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		return &fileHold{f, st.Size()}, nil
	})
	return d, path
}

// fill adds a blob that is landing.
func (h *tester) fill(b *fillHold) manifest.Digest {
	d := manifest.DigestOf(b.body)
	h.setBlob(d, func(int64) (hold, error) { return b, nil })
	return d
}

// A got is an answer, read to its end.
type got struct {
	status int
	header http.Header
	body   []byte
	err    error // of reading the body
}

// do sends a request; headers are "Key: value".
func (h *tester) do(method, path string, headers ...string) got {
	h.Helper()
	req, err := http.NewRequest(method, h.base+path, nil)
	if err != nil {
		h.Fatal(err)
	}
	for _, kv := range headers {
		k, v, _ := strings.Cut(kv, ": ")
		req.Header.Add(k, v)
	}
	res, err := h.client.Do(req)
	if err != nil {
		h.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return got{res.StatusCode, res.Header, body, err}
}

func (h *tester) get(path string, headers ...string) got {
	h.Helper()
	return h.do("GET", path, headers...)
}

// want demands a status and headers, "Key: value" or "Key:" for none at all.
func (h *tester) want(g got, status int, headers ...string) {
	h.Helper()
	if g.status != status {
		h.Fatalf("status %d, want %d; body %.200q", g.status, status, g.body)
	}
	for _, kv := range headers {
		k, v, _ := strings.Cut(kv, ":")
		if v = strings.TrimSpace(v); g.header.Get(k) != v {
			h.Errorf("%s is %q, want %q", k, g.header.Get(k), v)
		}
	}
	if g.header.Get("Www-Authenticate") != "" {
		h.Error("a client was challenged")
	}
}

// wantError demands an error in the API's form.
func (h *tester) wantError(g got, status int, code string) {
	h.Helper()
	h.want(g, status, "Content-Type: application/json; charset=utf-8", "X-Registryd-Source:", "Etag:")
	if !strings.HasPrefix(string(g.body), `{"errors":[{"code":"`+code+`"`) {
		h.Errorf("body is %.200q, want code %s", g.body, code)
	}
}

// pattern is n bytes that are different everywhere.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8*13 + i>>16*31)
	}
	return b
}

// rawGet sends the path as it is, which net/http's client would not.
func rawGet(base, path string) (status int, body string, err error) {
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		return 0, "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"); err != nil {
		return 0, "", err
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}
