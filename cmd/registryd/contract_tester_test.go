package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

// A subject is the built daemon with an upstream and a folder for a bucket, known
// by its sockets and files alone.
type subject struct {
	*process
	up    *hubtest.Hub
	cache string
	store string // the folder
}

// contractFile is a configuration of which everything is below %[1]s, with the
// upstream %[2]s.
const contractFile = `
listen: 127.0.0.1:0
admin: unix://%[1]s/a.sock
cache: {dir: %[1]s/cache, size: 64MiB, keep_free: 0}
store: {url: 'file://%[1]s/store'}
upstreams:
  docker.io: {url: "%[2]s"}
`

// newSubject is a daemon that does not run yet; oldnew changes its configuration.
func newSubject(t testing.TB, oldnew ...string) *subject {
	t.Helper()
	dir, err := os.MkdirTemp("", "registryd-") // short, as the path of a socket has to be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &subject{process: newProcess(t, dir), up: hubtest.New(t), cache: filepath.Join(dir, "cache"), store: filepath.Join(dir, "store")}
	text := fmt.Sprintf(contractFile, dir, s.up.URL)
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text, oldnew[i]) {
			t.Fatalf("there is nothing like %q in the configuration", oldnew[i])
		}
		text = strings.ReplaceAll(text, oldnew[i], oldnew[i+1])
	}
	s.configure(text)
	return s
}

// running is newSubject, started.
func running(t testing.TB, oldnew ...string) *subject {
	t.Helper()
	s := newSubject(t, oldnew...)
	s.start()
	return s
}

// image puts an image into the upstream, as library/app:v1.
func (s *subject) image(sizes ...int64) hubtest.Image {
	return s.up.AddImage("library/app", "v1", s.up.Layers(sizes...)...)
}

// pull pulls library/app:v1 whole.
func (s *subject) pull() *pulled {
	s.Helper()
	p, err := docker("http://"+s.address).pull(s.Context(), "library/app:v1")
	if err != nil {
		s.Fatal(err)
	}
	return p
}

// ask sends a request to the registry and wants an answer.
func (s *subject) ask(method, path string) answer {
	s.Helper()
	a, err := s.try(method, path)
	if err != nil {
		s.Fatalf("%s %s: %v, after %v", method, path, err, a.took)
	}
	return a
}

// try is ask where the connection may break.
func (s *subject) try(method, path string) (a answer, err error) {
	req, err := http.NewRequestWithContext(s.Context(), method, "http://"+s.address+path, nil)
	if err != nil {
		return a, err
	}
	watch := startWatch()
	defer func() { a.took = watch.took() }()
	if a.Response, err = docker("").http.Do(req); err != nil {
		return a, err
	}
	defer a.Body.Close()
	a.body, err = io.ReadAll(a.Body)
	return a, err
}

// blob asks for a blob of library/app.
func (s *subject) blob(d manifest.Digest) answer {
	s.Helper()
	return s.ask(http.MethodGet, "/v2/library/app/blobs/"+d.String())
}

// onAdmin gets a page of the admin listener, which has to answer 200.
func (s *subject) onAdmin(path string) []byte {
	s.Helper()
	resp, err := s.admin.Get("http://localhost" + path)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.Fatalf("%s: %s, %v: %s", path, resp.Status, err, body)
	}
	return body
}

// blobFile is where the contract says that a blob lies.
func (s *subject) blobFile(d manifest.Digest) string {
	return filepath.Join(s.cache, "blobs", string(d.Algorithm()), d.Hex()[:2], d.Hex())
}

// awaitFile waits until the blob's file has its bytes, and is bounded.
func (s *subject) awaitFile(c hubtest.Content) {
	s.Helper()
	for end := time.Now().Add(startLimit); ; time.Sleep(5 * time.Millisecond) {
		got, err := os.ReadFile(s.blobFile(c.Digest))
		if err == nil && bytes.Equal(got, c.Bytes()) {
			return
		}
		if time.Now().After(end) {
			s.Fatalf("%s is not on the disk: %d bytes, %v", c.Digest, len(got), err)
		}
	}
}

// wantOutage checks an answer that nobody could give.
func wantOutage(t testing.TB, a answer) {
	t.Helper()
	if !slices.Contains([]int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, a.StatusCode) {
		t.Errorf("%s: %s, want 502, 503 or 504", a.Request.URL, a.Status)
	}
	wantOCIError(t, a)
	if a.took > 10*time.Second {
		t.Errorf("%s: the error took %v", a.Request.URL, a.took)
	}
}

func wantOCIError(t testing.TB, a answer) {
	t.Helper()
	var e struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(a.body, &e); err != nil || len(e.Errors) == 0 || e.Errors[0].Code == "" {
		t.Errorf("%s: %s, and the body is not an error in OCI form: %q", a.Request.URL, a.Status, a.body)
	}
	if got := a.Header.Get("X-Registryd-Source"); got != "" {
		t.Errorf("%s: an error from source %q", a.Request.URL, got)
	}
}

// wantSource checks X-Registryd-Source.
func wantSource(t testing.TB, a answer, want string) {
	t.Helper()
	if got := a.Header.Values("X-Registryd-Source"); a.StatusCode/100 != 2 || len(got) != 1 || got[0] != want {
		t.Errorf("%s %s: %s from %q, want %s: %.200s", a.Request.Method, a.Request.URL.Path, a.Status, got, want, a.body)
	}
}

// raw sends bytes that no client's library would, and returns the status line.
func (s *subject) raw(request string) string {
	s.Helper()
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		s.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(startLimit))
	if _, err := io.WriteString(c, request); err != nil {
		s.Fatal(err)
	}
	reply, _ := io.ReadAll(io.LimitReader(c, 64<<10)) // what came before a reset counts
	line, _, _ := strings.Cut(string(reply), "\r\n")
	return line
}

// leftIn lists the files and folders below a folder.
func leftIn(t testing.TB, folder string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
