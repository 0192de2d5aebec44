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

// benchmarkConnections asks for path on many connections, as clients would, with
// as little work on the client's side as reading the answer takes.
func benchmarkConnections(b *testing.B, base, path string, size int) {
	const connections = 32
	request := []byte("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n")
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan error, connections)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	for range connections {
		go func() { done <- hammer(strings.TrimPrefix(base, "http://"), request, size, &left) }()
	}
	for range connections {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
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

// BenchmarkWarmManifest measures a manifest by tag: in the handler alone, over 32
// connections, and the same bytes from a bare net/http server.
func BenchmarkWarmManifest(b *testing.B) {
	body := bytes.Repeat([]byte("m"), 2000)
	h := newTester(b, HandlerOptions{})
	h.manifest("library/debian", "12", string(body))
	h.handler.contents = steady{h.fakeContents, h.manifests["library/debian:12"]}
	path := "/v2/library/debian/manifests/12?ns=docker.io"
	b.Run("handler", func(b *testing.B) { benchmarkHandler(b, h.handler, path) })
	b.Run("connections", func(b *testing.B) { benchmarkConnections(b, h.base, path, len(body)) })
	b.Run("bare", func(b *testing.B) {
		benchmarkConnections(b, baseline(b, memoryServer(manifest.OCIManifest, body)), path, len(body))
	})
}

// BenchmarkWarmBlob64K is the same for a blob that is complete on the disk; "file"
// is what it costs without the memory.
func BenchmarkWarmBlob64K(b *testing.B) {
	body := pattern(64 << 10)
	h := newTester(b, HandlerOptions{})
	d, _ := h.file(body)
	path := blobPath(d)
	h.want(h.get(path), 200)
	b.Run("handler", func(b *testing.B) { benchmarkHandler(b, h.handler, path) })
	b.Run("connections", func(b *testing.B) { benchmarkConnections(b, h.base, path, len(body)) })
	b.Run("bare", func(b *testing.B) {
		benchmarkConnections(b, baseline(b, memoryServer("application/octet-stream", body)), path, len(body))
	})
	b.Run("file", func(b *testing.B) {
		h.handler.small.order.Purge()
		large, _ := h.file(pattern(maxSmallBlob + 1))
		benchmarkConnections(b, h.base, blobPath(large), maxSmallBlob+1)
	})
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
