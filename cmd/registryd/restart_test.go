package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

// A program is the daemon as a process of its own, which can be killed.
type program struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has; err is set
	err   error

	mu  sync.Mutex // guards log
	log strings.Builder
}

// launch runs the binary in the place of the daemon that newHost started.
func (h *host) launch() *program {
	h.Helper()
	binary, err := exec.LookPath("registryd") // testscript has put it there
	check(h, err)
	p := &program{cmd: exec.Command(binary, "serve", "--config", h.cfg), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", stageEarly, stageFrom))
	stderr, err := p.cmd.StderrPipe()
	check(h, err)
	check(h, p.cmd.Start())
	serving := make(chan string, 1)
	go func() {
		defer close(p.ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			p.mu.Lock()
			p.log.WriteString(lines.Text() + "\n")
			p.mu.Unlock()
			if strings.Contains(lines.Text(), "msg=serving") {
				serving <- lines.Text()
			}
		}
		p.err = p.cmd.Wait()
	}()
	h.stop = sync.OnceFunc(func() {
		p.cmd.Process.Kill()
		<-p.ended
		if h.Failed() {
			h.Logf("the daemon said\n%s", p.said())
		}
	})
	select {
	case line := <-serving:
		h.url, h.admin = "http://"+attribute(line, "listen"), "http://"+attribute(line, "admin")
	case <-p.ended:
		h.Fatalf("the daemon ended with %v and said\n%s", p.err, p.said())
	case <-time.After(startLimit):
		h.Fatalf("the daemon did not start; it said\n%s", p.said())
	}
	return p
}

func (p *program) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// attribute finds key=value in a line of the log.
func attribute(line, key string) string {
	for word := range strings.FieldsSeq(line) {
		if v, ok := strings.CutPrefix(word, key+"="); ok {
			return v
		}
	}
	return ""
}

// newProgram is newHost with the daemon as a process of its own.
func newProgram(t *testing.T, options ...func(*host)) (*host, *program) {
	t.Helper()
	h := newHost(t, options...)
	h.stop()
	return h, h.launch()
}

// holdAt is holdAfter that also holds who asks from elsewhere: n bytes land.
func (up *origin) holdAt(d manifest.Digest, n int64) (open func()) {
	gate := hubtest.NewGate()
	up.Fault(hubtest.And(hubtest.Blob(d), fromStart), hubtest.HoldAfter(n, gate))
	up.Fault(hubtest.And(hubtest.Blob(d), hubtest.Not(fromStart)), hubtest.Hold(gate))
	return gate.Open
}

func TestKilledInMidPullServesWhatItHasAndGoesOn(t *testing.T) {
	t.Parallel()
	const size, landed, span = 24 << 20, 6 << 20, 1 << 20
	h, _ := newProgram(t)
	before := h.up.AddImage("library/before", "v1", h.up.Layers(2<<20, 300)...)
	h.pull(before.Name())
	h.awaitImage(before)
	image := h.image(size, 300)
	layer := image.Layers[0]
	resume := h.up.holdAt(layer.Digest, landed)
	h.resolve(image.Name())
	client := h.open(image.Repo, layer.Digest)
	check(t, client.want(layer.Slice(0, landed-span)))

	h.stop() // by SIGKILL
	if err := client.rest(layer); err == nil {
		t.Error("the client of a daemon that was killed was given an end")
	}
	client.Close()
	h.up.Down()
	h.launch()
	h.pull(before.Name())
	h.wantRefused(image, layer.Digest)

	h.up.Up()
	resume()
	h.pull(image.Name())
	h.wantCost(layer, 1+2*float64(span)/size)
	h.awaitImage(image)

	h.stop()
	h.up.Down()
	h.launch()
	for d, source := range h.pull(image.Name()).source {
		if source != "disk" {
			t.Errorf("%s came from %q, want disk", d, source)
		}
	}
}

// A supervisor's SIGTERM comes while a client reads from the disk and takes its
// time, another follows a fill that has stopped, and a third is idle.
func TestTerminatedDaemonIsGoneSoonAndFillsGoOn(t *testing.T) {
	t.Parallel()
	const size, landed, span, soon = 24 << 20, 6 << 20, 1 << 20, 5*time.Second + noise
	h, p := newProgram(t)
	whole := h.up.AddImage("library/whole", "v1", h.up.Layers(32<<20)...)
	h.pull(whole.Name())
	h.awaitImage(whole)
	slow, err := docker(h.url).smallWindow().open(t.Context(), whole.Repo, whole.Layers[0].Digest, "")
	check(t, err)
	defer slow.Close()
	check(t, slow.want(whole.Layers[0].Slice(0, 64<<10)))

	image := h.image(size)
	layer := image.Layers[0]
	resume := h.up.holdAt(layer.Digest, landed)
	h.resolve(image.Name())
	follower := h.open(image.Repo, layer.Digest)
	defer follower.Close()
	check(t, follower.want(layer.Slice(0, landed-span)))
	address := strings.TrimPrefix(h.url, "http://")
	idle, err := net.Dial("tcp", address)
	check(t, err)
	defer idle.Close()

	watch := startWatch()
	check(t, p.cmd.Process.Signal(syscall.SIGTERM))
	h.await("the door to be closed", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if took := watch.took(); took > noise {
		t.Errorf("new connections were let in for %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*soon)
	defer cancel()
	select {
	case <-p.ended:
	case <-ctx.Done():
		t.Fatal("the daemon is still there")
	}
	if took := watch.took(); took > soon || p.err != nil {
		t.Errorf("the daemon was gone after %v, with %v; want at most %v, and no error", took, p.err, soon)
	}
	for _, s := range []struct {
		*stream
		of hubtest.Content
	}{{slow, whole.Layers[0]}, {follower, layer}} {
		if err := s.rest(s.of); err == nil {
			t.Errorf("a client of a daemon that stopped was given an end after %d bytes", s.n)
		}
	}

	resume()
	h.launch()
	h.awaitKept(layer.Digest) // nobody has asked for it
	h.wantCost(layer, 1+2*float64(span)/size)
	h.wantHit(image, layer.Digest)
	h.awaitStored(layer)
}
