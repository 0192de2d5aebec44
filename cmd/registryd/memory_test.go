package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"hostlocal/registryd/upstream/hubtest"
)

// What the daemon has resident does not depend on how large a blob is, cold or
// warm. Eight clients get one of 8 MiB, and of another daemon one 16 times as large.
func TestMemoryDoesNotGrowWithTheBlob(t *testing.T) {
	h := hubtest.New(t)
	var peaks []int64
	for _, size := range []int64{8 << 20, 128 << 20} {
		peaks = append(peaks, peakFor(t, h, size))
	}
	t.Logf("resident at most: %d and %d MiB", peaks[0]>>20, peaks[1]>>20)
	allowance := peaks[0] / 2
	if underRace {
		allowance = 100 << 20 // it remembers several words for each that is touched
	}
	if peaks[1] > peaks[0]+allowance {
		t.Errorf("%d MiB were resident for a blob of 8 MiB and %d for one of 128 MiB", peaks[0]>>20, peaks[1]>>20)
	}
}

// BenchmarkMemory reports the same for blobs of 64 MiB and 1 GiB (small: 8 and 128
// MiB), in MiB.
func BenchmarkMemory(b *testing.B) {
	h := hubtest.New(b)
	var small, large []int64
	for b.Loop() {
		small = append(small, peakFor(b, h, sized[int64](8<<20, 64<<20)))
		large = append(large, peakFor(b, h, sized[int64](128<<20, 1<<30)))
	}
	n := len(small)
	b.ReportMetric(0, "ns/op")
	reportRatio(b, "MiB-small-blob", n, func(i int) float64 { return float64(small[i]) / (1 << 20) })
	reportRatio(b, "MiB-large-blob", n, func(i int) float64 { return float64(large[i]) / (1 << 20) })
}

// peakFor returns how much memory a daemon had resident at most, in bytes, that
// eight clients got a blob from, first cold and then warm.
func peakFor(t testing.TB, h *hubtest.Hub, size int64) int64 {
	t.Helper()
	img := h.AddImage("library/app", fmt.Sprint("v", size), h.Layer(size))
	p := newTester(t).started(h)
	defer p.stop()
	base := "http://" + p.address + "/v2/hub.test/library/app/"
	check(t, fetch(base+"manifests/"+img.Tag, int64(len(img.Body))))
	for range 2 {
		var clients errgroup.Group
		for range 8 {
			clients.Go(func() error { return fetch(base+"blobs/"+img.Layers[0].Digest.String(), size) })
		}
		check(t, clients.Wait())
	}
	return p.memory()
}

// The daemon's bound on connections, as registryd has it.
const maxConnections = 4096

func TestLongestIdleConnectionIsClosedAboveTheLimit(t *testing.T) {
	const more = 8
	// The daemon, which inherits the limit, needs two for each connection before it
	// promises so many.
	raiseDescriptors(t, 2*maxConnections+512)
	p := newTester(t).started(hubtest.New(t))
	idle := p.descriptors()
	var open []*registryConn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range maxConnections + more {
		c, err := dialRegistry(p.address)
		check(t, err)
		open = append(open, c)
	}
	for i, c := range open[:more] {
		check(t, c.SetReadDeadline(time.Now().Add(startLimit)))
		if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) && !isReset(err) {
			t.Fatalf("connection %d, idle for longest, is still there: %v", i, err)
		}
	}
	for _, c := range open[more:] {
		resp, err := c.get("/v2/")
		if err != nil {
			t.Fatalf("a connection within the limit was closed: %v", err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		check(t, err)
	}
	for _, c := range open {
		c.Close()
	}
	p.settles("descriptors", func() bool { return p.descriptors() <= idle+16 })
}

func isReset(err error) bool {
	var e *net.OpError
	return errors.As(err, &e) && !e.Timeout()
}
