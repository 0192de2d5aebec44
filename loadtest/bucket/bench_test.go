package bucket

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// BenchmarkProxy is what passes through the proxy: a store and clients that cost
// little stand on both of its sides.
func BenchmarkProxy(b *testing.B) {
	data := pattern(64 << 20)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "67108864")
		w.Write(data)
	}))
	defer backend.Close()
	p := before(b, backend.URL, Options{})
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		resp, err := http.Get(p.URL + "/images/blob")
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); n != int64(len(data)) || err != nil {
			b.Fatal(n, err)
		}
		resp.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
}
