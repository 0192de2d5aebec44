package loadtest

import (
	"context"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
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

// However many clients have something to read, only as many as there are cores do,
// so that the rest of the process has its turn.
func TestClientsTakeTurns(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var wg sync.WaitGroup
	var now, most, bytes atomic.Int64
	for range 20 {
		server, client := pair(t, l)
		wg.Go(func() {
			io.Copy(server, io.LimitReader(zeros{}, 1<<20))
			server.Close()
		})
		k := newConn(t.Context(), client, "", func() {})
		wg.Go(func() {
			defer k.Close()
			for {
				n, err := k.receive(chunk, func([]byte) {
					n := now.Add(1)
					for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
					}
					runtime.Gosched()
					now.Add(-1)
				})
				bytes.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if most.Load() > int64(runtime.GOMAXPROCS(0)) || bytes.Load() != 20<<20 {
		t.Errorf("%d at once read %d bytes", most.Load(), bytes.Load())
	}
}

// pair returns two ends of a connection.
func pair(t *testing.T, l net.Listener) (server, client net.Conn) {
	t.Helper()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return server, client
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestReceiveBuffersShareWhatTCPHas(t *testing.T) {
	if sysctl("tcp_mem", 0) == 0 {
		t.Skip("no /proc/sys/net/ipv4/tcp_mem to go by")
	}
	one, many := receiveBuffer(1), receiveBuffer(1_000_000)
	if one != 0 && one < mostBuffer || many != leastBuffer {
		t.Errorf("%d bytes for one connection, %d each for a million", one, many)
	}
}
