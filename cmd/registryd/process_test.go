package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"hostlocal/registryd/upstream/hubtest"
)

// A process is a daemon of its own, for what only a process has: memory,
// descriptors, an end.
type process struct {
	*tester
	cmd     *exec.Cmd
	address string // of the registry
	admin   *http.Client
	log     bytes.Buffer
}

// started runs registryd serve with the hub as its only upstream and a folder as
// its store, and waits until it is ready. The test's end stops it.
func (t *tester) started(h *hubtest.Hub) *process {
	t.Helper()
	return t.startedOn(h, folderBucket{filepath.Join(t.dir, "store")})
}

// startedOn is started with a store.
func (t *tester) startedOn(h *hubtest.Hub, bucket bucketServer) *process {
	t.Helper()
	binary, err := exec.LookPath("registryd") // testscript has put it there
	if err != nil {
		t.Fatal(err)
	}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	file := t.file(fmt.Sprintf(`
listen: 127.0.0.1:0
admin: unix://%[1]s/a.sock
cache: {dir: %[1]s/cache, size: 2GiB, keep_free: 1MiB}
store:
%[2]s
upstreams: {hub.test: {url: "%[3]s"}}
`, t.dir, bucket.config(), h.URL))
	p := &process{tester: t, cmd: exec.Command(binary, "serve", "--config", file)}
	credentials()
	p.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+notify.LocalAddr().String())
	p.cmd.Stderr = &p.log
	p.admin = &http.Client{Timeout: startLimit, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", filepath.Join(t.dir, "a.sock"))
		},
	}}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Signal(syscall.SIGTERM)
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("the daemon ended with %v and said\n%s", err, &p.log)
		}
	})
	notify.SetReadDeadline(time.Now().Add(startLimit))
	said := make([]byte, 4096)
	n, err := notify.Read(said)
	if err != nil {
		t.Fatalf("the daemon did not become ready: %v; it said\n%s", err, &p.log)
	}
	_, p.address, _ = strings.Cut(string(said[:n]), "STATUS=serving on ")
	return p
}

// memory returns the most memory that was resident so far, in bytes.
func (p *process) memory() int64 {
	p.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		p.Fatalf("no VmHWM in\n%s", status)
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		p.Fatal(err)
	}
	return n << 10
}

// descriptors returns how many the daemon has open.
func (p *process) descriptors() int {
	p.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		p.Fatal(err)
	}
	return len(all)
}

// metric returns the value of a metric without labels.
func (p *process) metric(name string) float64 {
	p.Helper()
	resp, err := p.admin.Get("http://localhost/metrics")
	if err != nil {
		p.Fatal(err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		p.Fatal(err)
	}
	for line := range strings.Lines(text.String()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				p.Fatal(err)
			}
			return v
		}
	}
	p.Fatalf("no metric %s in\n%s", name, &text)
	return 0
}
