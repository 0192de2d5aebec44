package hub

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkServe is what the hub can send: its clients, which share the machine with
// it, throw the bytes away. As vegeta-like load it is an upper bound of what a run
// can measure.
func BenchmarkServe(b *testing.B) {
	const size = 64 << 20
	for name, clients := range map[string]int{"1 connection": 1, "100 connections": 100, "1000 connections": 1000} {
		b.Run(name, func(b *testing.B) {
			h := start(b)
			l := h.Layer(size)
			h.AddBlob("app", l)
			tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: clients, ReadBufferSize: 64 << 10}
			defer tr.CloseIdleConnections()
			url := h.URL + "/v2/app/blobs/" + l.Digest.String()
			b.SetBytes(size)
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			b.ResetTimer()
			for range clients {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						req, _ := http.NewRequest("GET", url, nil)
						resp, err := tr.RoundTrip(req)
						if err != nil {
							b.Error(err)
							return
						}
						if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
							b.Errorf("%d bytes, %v", n, err)
						}
						resp.Body.Close()
					}
				})
			}
			wg.Wait()
		})
	}
}

// BenchmarkSmall is requests of 4 KiB over kept connections.
func BenchmarkSmall(b *testing.B) {
	h := start(b)
	l := h.Layer(4 << 10)
	h.AddBlob("app", l)
	tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	defer tr.CloseIdleConnections()
	url := h.URL + "/v2/app/blobs/" + l.Digest.String()
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req, _ := http.NewRequest("GET", url, nil)
			resp, err := tr.RoundTrip(req)
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}
