package loadtest

import (
	"context"
	"net"
	"runtime"
	"testing"

	"hostlocal/manifest"
)

// A client that waits in the middle of three layers is what a storm consists of.
// The bound counts the server's side too, which is in this process: four goroutines
// with a buffer of 2 KiB each. A client that kept one read buffer a connection
// would not fit.
func TestWaitingClientCostsLittle(t *testing.T) {
	const clients, each, goroutines = 400, 100 << 10, 8
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := newEcho(l)
	defer e.close()
	const layer, comes = 100 << 10, 50 << 10
	tag := e.image("stalls", layer, layer, layer)
	m, err := manifest.Parse(e.answers[tag][1])
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range m.Layers { // the other half never comes
		whole := e.answers[d.Digest.String()]
		e.answers[d.Digest.String()] = [][]byte{whole[0], whole[1][:comes]}
	}
	s := Storm{Scenario: scenario(clients, "containerd"), Targets: []Target{{URL: "http://" + l.Addr().String()}}}
	for range clients {
		s.Jobs = append(s.Jobs, Job{Repo: "library/app", Tag: tag})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	used := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	before, grown, running := used(), int64(0), 0
	s.Progress = func(p Progress) {
		if p.Received >= clients*3*comes && grown == 0 {
			grown, running = used()-before, runtime.NumGoroutine()
			cancel()
		}
	}
	if _, err := s.Run(ctx); err != context.Canceled {
		t.Fatal(err)
	}
	t.Logf("%d bytes and %.1f goroutines a client, the server's among them", grown/clients, float64(running)/clients)
	if grown > clients*each || running > clients*goroutines+50 {
		t.Errorf("%d clients that wait take %d bytes and %d goroutines", clients, grown, running)
	}
}
