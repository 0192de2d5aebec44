package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

// The storm: as many clients as a large deploy has containers, with the
// connections that docker opens for one image.
const (
	stormClients     = 1000
	stormConnections = 3

	// stormMemory is what the daemon may have resident at most, in bytes.
	stormMemory = 128 << 20
)

// TestStormOfColdClientsCostsOneImageAndLittleMemory has all connections open at
// once and then sends all requests, for an image that is not on this host yet.
func TestStormOfColdClientsCostsOneImageAndLittleMemory(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if need := uint64(stormClients*stormConnections + 200); limit.Cur < need {
		t.Skipf("skipped: %d descriptors are allowed here, and the storm needs %d (ulimit -n)", limit.Cur, need)
	}
	h := hubtest.New(t)
	img := h.AddImage("library/app", "v1", h.Layer(256<<10), h.Layer(128<<10))
	p := newTester(t).started(h)
	goroutines, descriptors := p.metric("go_goroutines"), p.descriptors()

	digests := []manifest.Digest{img.Config.Digest, img.Layers[0].Digest, img.Layers[1].Digest}
	var open, done sync.WaitGroup
	storm := make(chan struct{})
	for range stormClients {
		for _, d := range digests {
			open.Add(1)
			done.Go(func() {
				c, err := dialRegistry(p.address)
				open.Done()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				<-storm
				if err := c.fetch(d); err != nil {
					t.Error(err)
				}
			})
		}
	}
	open.Wait()
	close(storm)
	begun := time.Now()
	done.Wait()
	took := time.Since(begun)

	for _, d := range digests {
		if n := h.Gets(d); n != 1 {
			t.Errorf("the upstream was asked %d times for %s", n, d)
		}
	}
	if sent, want := h.SentAll(), img.Bytes(); sent > want {
		t.Errorf("the upstream sent %d bytes for an image of %d", sent, want)
	}
	peak := p.memory()
	t.Logf("%d requests at once took %v; %d MiB were resident at most", stormClients*stormConnections, took, peak>>20)
	if peak > stormMemory && !underRace {
		t.Errorf("%d MiB were resident, more than %d", peak>>20, stormMemory>>20)
	}
	p.settles("goroutines", func() bool { return p.metric("go_goroutines") <= goroutines+16 })
	p.settles("descriptors", func() bool { return p.descriptors() <= descriptors+16 })
}

// settles waits until the daemon is as it was before the storm, give or take an
// idle connection to the upstream.
func (p *process) settles(what string, same func() bool) {
	p.Helper()
	for end := time.Now().Add(startLimit); !same(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			p.Errorf("the daemon's %s did not go back after the storm: %v goroutines, %d descriptors", what, p.metric("go_goroutines"), p.descriptors())
			return
		}
	}
}

// A registryConn is one connection of a client.
type registryConn struct {
	net.Conn
	r *bufio.Reader
}

// dialRegistry connects and says hello, so that the connection is accepted and
// has its goroutine when it returns.
func dialRegistry(address string) (*registryConn, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	c := &registryConn{conn, bufio.NewReaderSize(conn, 4<<10)}
	resp, err := c.get("/v2/")
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// fetch gets a blob and checks it.
func (c *registryConn) fetch(d manifest.Digest) error {
	resp, err := c.get("/v2/hub.test/library/app/blobs/" + d.String())
	if err != nil {
		return err
	}
	sum := d.Algorithm().New()
	if _, err := io.Copy(sum, resp.Body); err != nil {
		return fmt.Errorf("%s: %w", d, err)
	}
	if got := d.Algorithm().Sum(sum); got != d {
		return fmt.Errorf("asked for %s and got %s", d, got)
	}
	return nil
}

func (c *registryConn) get(path string) (*http.Response, error) {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: registry\r\n\r\n", path); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	return resp, err
}
