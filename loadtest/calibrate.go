package loadtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"hostlocal/manifest"
)

const (
	// calibrateFor is how long each of the three measurements takes at the least:
	// thousands of pulls, and short enough to stand before every run.
	calibrateFor = 700 * time.Millisecond

	// clientMemory is what a client in flight takes, in bytes: some 40 KiB here, as
	// TestWaitingClientCostsLittle sees it, and the rest for the buffers that the
	// kernel gives its sockets.
	clientMemory = 128 << 10

	// clientConnections is what a client of the usual profiles has open at once.
	clientConnections = 4
)

// Calibrate measures what the tool can do on this machine, in some three seconds,
// against a server within this process that answers from memory. The server costs
// too, about a fifth, so that the figures are lower bounds.
func Calibrate(ctx context.Context) (Calibration, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return Calibration{}, err
	}
	e := newEcho(l)
	defer e.close()
	var c Calibration
	tiny := e.image("tiny", 1<<10)
	small := e.image("small", repeat(4<<10, 100)...)
	large := e.image("large", 64<<20)

	// A hundred clients at a time: waiting for each other is part of the cost.
	m, wall, err := e.pull(ctx, tiny, 100)
	if err != nil {
		return c, err
	}
	c.PullsPerSecond = float64(len(m.Pulls)) / wall.Seconds()
	if m, wall, err = e.pull(ctx, small, 2*runtime.GOMAXPROCS(0)); err != nil {
		return c, err
	}
	for _, r := range m.Requests {
		c.RequestsPerSecond += float64(r.Count) / wall.Seconds()
	}
	if m, wall, err = e.pull(ctx, large, 2*runtime.GOMAXPROCS(0)); err != nil {
		return c, err
	}
	c.BytesPerSecond = float64(m.Verified) / wall.Seconds()
	c.Clients = min(raiseDescriptors()/clientConnections, int(freeMemory()/2/clientMemory), maxClients)
	return c, nil
}

func repeat(size, n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = size
	}
	return all
}

// freeMemory is what the system could give to processes, in bytes.
func freeMemory() int64 {
	var i syscall.Sysinfo_t
	if err := syscall.Sysinfo(&i); err != nil {
		return 1 << 30
	}
	return int64(i.Freeram+i.Bufferram) * int64(i.Unit)
}

// pull has n clients at a time pull an image, over and over, until the time is up,
// and returns the sum.
func (e *echo) pull(ctx context.Context, tag string, n int) (sum Measurement, wall time.Duration, err error) {
	sum.Requests = map[string]RequestTotals{}
	for wall < calibrateFor {
		s := Storm{
			Scenario: Scenario{Name: "calibrate", Images: Images{Layers: []Size{1}}, Clients: Clients{Count: n, Profile: "containerd"}},
			Targets:  []Target{{URL: "http://" + e.l.Addr().String()}},
		}
		for range n {
			s.Jobs = append(s.Jobs, Job{Repo: "calibrate", Tag: tag})
		}
		m, err := s.Run(ctx)
		if err != nil {
			return sum, 0, err
		}
		if len(m.Failures) > 0 {
			return sum, 0, errors.New("calibrating: " + m.Failures[0].Examples[0])
		}
		wall += m.Wall
		sum.Pulls = append(sum.Pulls, m.Pulls...)
		sum.Verified += m.Verified
		for kind, r := range m.Requests {
			t := sum.Requests[kind]
			t.Count += r.Count
			sum.Requests[kind] = t
		}
	}
	return sum, wall, nil
}

// An echo is as little of a registry as the puller needs: it finds whole answers,
// head and body, by the last element of the path.
type echo struct {
	l       net.Listener
	mu      sync.Mutex // guards conns
	conns   map[net.Conn]bool
	wg      sync.WaitGroup
	answers map[string][][]byte // head, body; complete before the first request
}

func newEcho(l net.Listener) *echo {
	e := &echo{l: l, conns: map[net.Conn]bool{}, answers: map[string][][]byte{}}
	e.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			e.mu.Lock()
			e.conns[c] = true
			e.mu.Unlock()
			e.wg.Go(func() { e.serve(c) })
		}
	})
	return e
}

func (e *echo) close() {
	e.l.Close()
	e.mu.Lock()
	for c := range e.conns {
		c.Close()
	}
	e.mu.Unlock()
	e.wg.Wait()
}

func (e *echo) serve(c net.Conn) {
	defer func() {
		c.Close()
		e.mu.Lock()
		delete(e.conns, c)
		e.mu.Unlock()
	}()
	r := bufio.NewReaderSize(c, 2<<10)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		for {
			rest, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(bytes.TrimSpace(rest)) == 0 {
				break
			}
		}
		method, rest, _ := strings.Cut(line, " ")
		target, _, _ := strings.Cut(rest, " ")
		answer, ok := e.answers[target[strings.LastIndexByte(target, '/')+1:]]
		if !ok {
			answer = [][]byte{[]byte("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), nil}
		}
		out := net.Buffers{answer[0], answer[1]}
		if method == "HEAD" {
			out = out[:1]
		}
		if _, err := out.WriteTo(c); err != nil {
			return
		}
	}
}

// add has b answered under its digest, and under tag if that is not "".
func (e *echo) add(b []byte, mediaType, tag string) manifest.Descriptor {
	d := manifest.DigestOf(b)
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: %s\r\nDocker-Content-Digest: %s\r\nContent-Length: %s\r\n\r\n", mediaType, d, strconv.Itoa(len(b)))
	e.answers[d.String()] = [][]byte{[]byte(head), b}
	if tag != "" {
		e.answers[tag] = e.answers[d.String()]
	}
	return manifest.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

// image adds one of those layer sizes and returns its tag. What the layers hold
// does not matter to a hash.
func (e *echo) image(tag string, sizes ...int) string {
	config := e.add([]byte(`{"os":"linux"}`), "application/vnd.oci.image.config.v1+json", "")
	var layers []manifest.Descriptor
	for i, size := range sizes {
		b := make([]byte, size)
		copy(b, tag+strconv.Itoa(i))
		layers = append(layers, e.add(b, "application/vnd.oci.image.layer.v1.tar+gzip", ""))
	}
	body, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": manifest.OCIManifest, "config": config, "layers": layers})
	if err != nil {
		panic(err) // of types that marshal
	}
	e.add(body, manifest.OCIManifest, tag)
	return tag
}
