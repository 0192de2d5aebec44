package registryd

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hostlocal/manifest"
)

// quiet is a ResponseWriter that costs nothing, so that a benchmark counts what
// the handler costs.
type quiet struct{ header http.Header }

func (q *quiet) Header() http.Header         { return q.header }
func (q *quiet) WriteHeader(int)             {}
func (q *quiet) Write(p []byte) (int, error) { return len(p), nil }

func benchmarkHandler(b *testing.B, h http.Handler, path string) {
	r, err := http.NewRequest("GET", path, http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	w := &quiet{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		h.ServeHTTP(w, r)
	}
}

// compare asks two servers for the same path over 32 connections, in turns, so
// that what else the machine does hits both alike. It reports what ours does in
// requests a second, and as a part of what the bare one does; by wall clock and by
// CPU time, which counts the client's on both sides.
func compare(b *testing.B, ours, bare, path string, size, turn int) {
	var wall, cpu [2]time.Duration
	requests := 0
	for b.Loop() {
		for i, base := range []string{ours, bare} {
			start, used := time.Now(), cpuTime(b)
			hammerAll(b, base, path, size, turn)
			wall[i] += time.Since(start)
			cpu[i] += cpuTime(b) - used
		}
		requests += turn
	}
	b.ReportMetric(float64(requests)/wall[0].Seconds(), "req/s")
	b.ReportMetric(wall[1].Seconds()/wall[0].Seconds(), "of-bare")
	b.ReportMetric(cpu[1].Seconds()/cpu[0].Seconds(), "of-bare-by-cpu")
	b.ReportMetric(0, "ns/op") // of a pair of turns: says nothing
}

// cpuTime is what this process has used.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// hammerAll asks n times over 32 connections, with as little work on the client's
// side as reading the answer takes.
func hammerAll(b *testing.B, base, path string, size, n int) {
	const connections = 32
	request := []byte("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n")
	var left atomic.Int64
	left.Store(int64(n))
	done := make(chan error, connections)
	for range connections {
		go func() { done <- hammer(strings.TrimPrefix(base, "http://"), request, size, &left) }()
	}
	for range connections {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

func hammer(addr string, request []byte, size int, left *atomic.Int64) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	r := bufio.NewReaderSize(c, 64<<10)
	for left.Add(-1) >= 0 {
		if _, err := c.Write(request); err != nil {
			return err
		}
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return err
			}
			if len(line) <= 2 {
				break
			}
		}
		if _, err := r.Discard(size); err != nil {
			return err
		}
	}
	return nil
}

// memoryServer is the measure: net/http writing the body from memory with the
// headers that have to be there.
func memoryServer(contentType string, body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	})
}

// baseline serves h with nothing around it.
func baseline(b *testing.B, h http.Handler) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &http.Server{Handler: h}
	done := make(chan error)
	go func() { done <- s.Serve(l) }()
	b.Cleanup(func() {
		s.Close()
		<-done
	})
	return "http://" + l.Addr().String()
}

// BenchmarkWarmManifest measures a manifest by tag: in the handler alone, and over
// connections next to a bare net/http server with the same bytes.
func BenchmarkWarmManifest(b *testing.B) {
	body := bytes.Repeat([]byte("m"), 2000)
	h := newTester(b, HandlerOptions{})
	h.manifest("library/debian", "12", string(body))
	h.handler.contents = steady{h.fakeContents, h.manifests["library/debian:12"]}
	path := "/v2/library/debian/manifests/12?ns=docker.io"
	b.Run("handler", func(b *testing.B) { benchmarkHandler(b, h.handler, path) })
	b.Run("connections", func(b *testing.B) {
		compare(b, h.base, baseline(b, memoryServer(manifest.OCIManifest, body)), path, len(body), 4000)
	})
}

// BenchmarkWarmBlob64K is the same for a blob that is complete and in memory;
// "file" is what it costs from its file.
func BenchmarkWarmBlob64K(b *testing.B) {
	body := pattern(64 << 10)
	h := newTester(b, HandlerOptions{})
	d := manifest.DigestOf(body)
	h.setBlob(d, func(int64) (hold, error) { return memoryHold(body), nil })
	file, _ := h.file(body[1:])
	h.handler.contents = steady{h.fakeContents, Answer{}}
	bare := memoryServer("application/octet-stream", body)
	b.Run("handler", func(b *testing.B) { benchmarkHandler(b, h.handler, blobPath(d)) })
	b.Run("connections", func(b *testing.B) { compare(b, h.base, baseline(b, bare), blobPath(d), len(body), 4000) })
	b.Run("file", func(b *testing.B) {
		compare(b, h.base, baseline(b, memoryServer("application/octet-stream", body[1:])), blobPath(file), len(body)-1, 4000)
	})
}

// BenchmarkWarmBlob64M is about a layer, next to http.ServeFile with nothing around
// it: what counts is CPU time, and both should leave by sendfile.
func BenchmarkWarmBlob64M(b *testing.B) {
	h := newTester(b, HandlerOptions{})
	d, path := h.file(pattern(64 << 20))
	bare := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeFile(w, r, path)
	})
	b.Run("connections", func(b *testing.B) { compare(b, h.base, baseline(b, bare), blobPath(d), 64<<20, 64) })
}

// steady answers every manifest request alike, without the fake's own cost.
type steady struct {
	contents
	a Answer
}

func (s steady) Resolve(context.Context, string, string) (Repository, error) {
	return Repository{}, nil
}
func (s steady) Manifest(context.Context, Repository, Ref, bool) (Answer, error) {
	return s.a, nil
}
