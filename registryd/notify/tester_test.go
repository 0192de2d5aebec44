package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hostlocal/manifest"
)

// TestMain demands that the package's tests leave no goroutine behind.
func TestMain(m *testing.M) {
	if os.Getenv(childFile) != "" {
		publishAndDie()
	}
	code := m.Run()
	if left := leftBehind(); code == 0 && left != "" {
		fmt.Fprintf(os.Stderr, "goroutines left behind:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

func leftBehind() string {
	var left []string
	for deadline := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
		buf := make([]byte, 1<<20)
		stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
		left = left[:0]
		for _, s := range stacks[1:] {
			if strings.Contains(s, "hostlocal/") || strings.Contains(s, "net/http.") {
				left = append(left, s)
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return strings.Join(left, "\n\n")
		}
	}
}

// A delivery is a request as a receiver got it.
type delivery struct {
	header http.Header
	body   []byte
	event  Event
}

// A receiver is the other end: it notes what comes and answers as it is told.
type receiver struct {
	*httptest.Server
	t      testing.TB
	answer func(w http.ResponseWriter, r *http.Request, e Event) // nil: 200

	mu  sync.Mutex
	got []delivery
}

func newReceiver(t testing.TB, answer func(http.ResponseWriter, *http.Request, Event)) *receiver {
	v := &receiver{t: t, answer: answer}
	v.Server = httptest.NewServer(v)
	t.Cleanup(v.Close)
	return v
}

func (v *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var in struct{ Events []Event }
	if err := json.Unmarshal(body, &in); err != nil || len(in.Events) != 1 {
		v.t.Errorf("got %d events, %v: %s", len(in.Events), err, body)
		return
	}
	v.mu.Lock()
	v.got = append(v.got, delivery{r.Header, body, in.Events[0]})
	v.mu.Unlock()
	if v.answer != nil {
		v.answer(w, r, in.Events[0])
	}
}

// tags are those of the events that came, in their order.
func (v *receiver) tags() (tags []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, d := range v.got {
		tags = append(tags, d.event.Target.Tag)
	}
	return tags
}

// wantTags waits until these events have come, and demands that no others did.
func (v *receiver) wantTags(want ...string) {
	v.t.Helper()
	await(v.t, func() bool { return len(v.tags()) >= len(want) })
	if got := v.tags(); !slices.Equal(got, want) {
		v.t.Errorf("got %v, want %v", got, want)
	}
}

func await(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come to that")
		}
	}
}

// A tester has a Notifier, which it can start again.
type tester struct {
	testing.TB
	*Notifier
	options Options
	bytes   atomic.Int64 // accounted for

	mu      sync.Mutex
	results map[string]int // "endpoint result" -> how often
}

func newTester(t testing.TB, endpoints ...Endpoint) *tester {
	h := &tester{TB: t, results: map[string]int{}}
	h.options = Options{
		Endpoints: endpoints,
		File:      filepath.Join(t.TempDir(), "webhooks"),
		Addr:      "host:5000",
		Account:   func(n int64) { h.bytes.Add(n) },
		Observe: func(endpoint, result string) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.results[endpoint+" "+result]++
		},
	}
	h.start()
	t.Cleanup(h.stop)
	return h
}

func (h *tester) start() {
	h.Helper()
	n, err := New(h.options)
	if err != nil {
		h.Fatal(err)
	}
	h.Notifier = n
}

func (h *tester) stop() {
	if h.Notifier == nil {
		return
	}
	if err := h.Close(context.Background()); err != nil {
		h.Error(err)
	}
	h.Notifier = nil
	h.bytes.Store(0)
}

func (h *tester) result(what string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.results[what]
}

func (h *tester) wantResult(what string, n int) {
	h.Helper()
	await(h, func() bool { return h.result(what) >= n })
	if got := h.result(what); got != n {
		h.Errorf("%s %d times, want %d", what, got, n)
	}
}

func request(method string) *http.Request {
	r, err := http.NewRequest(method, "http://registry.corp:5000/v2/", nil)
	if err != nil {
		panic(err)
	}
	r.RemoteAddr = "127.0.0.1:4711"
	r.Header.Set("User-Agent", "docker/29")
	return r
}

// image is a manifest with a config and layers.
func image(layers int) *manifest.Manifest {
	config := manifest.Descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Digest: manifest.DigestOf([]byte("c")), Size: 1}
	m := &manifest.Manifest{Digest: manifest.DigestOf([]byte("m")), MediaType: manifest.OCIManifest, Body: []byte("{}"), Config: &config}
	for i := range layers {
		m.Layers = append(m.Layers, manifest.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: manifest.DigestOf([]byte{byte(i)}), Size: 7})
	}
	return m
}

func (h *tester) push(tags ...string) {
	for _, tag := range tags {
		h.Pushed(request("PUT"), "team/app", image(1), tag)
	}
}
