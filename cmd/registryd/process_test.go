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
	"testing"
	"time"

	"hostlocal/registryd/upstream/hubtest"
)

// A process is a daemon of its own, the built binary, for what only a process has:
// an environment, memory, descriptors, an end.
type process struct {
	testing.TB
	dir     string // of all that is the daemon's
	args    []string
	env     []string
	cmd     *exec.Cmd  // nil: none runs
	ended   chan error // what came of it
	address string     // of the registry
	admin   *http.Client
	log     bytes.Buffer  // to be read when the process has ended
	ready   time.Duration // from its start until it said that it is
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
	p := newProcess(t.TB, t.dir)
	credentials()
	for _, key := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		p.env = append(p.env, key+"="+os.Getenv(key))
	}
	p.configure(fmt.Sprintf(`
listen: 127.0.0.1:0
admin: unix://%[1]s/a.sock
cache: {dir: %[1]s/cache, size: 2GiB, keep_free: 1MiB}
store:
%[2]s
upstreams: {hub.test: {url: "%[3]s"}}
`, t.dir, bucket.config(), h.URL))
	p.start()
	return p
}

// newProcess is a daemon that does not run yet, with a home and a folder for
// temporary files of its own below dir.
func newProcess(t testing.TB, dir string) *process {
	t.Helper()
	p := &process{TB: t, dir: dir, env: []string{
		"HOME=" + filepath.Join(dir, "home"), "TMPDIR=" + filepath.Join(dir, "tmp"),
		"PATH=" + os.Getenv("PATH"), "NOTIFY_SOCKET=" + filepath.Join(dir, "notify"),
	}}
	for _, sub := range []string{"home", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	p.admin = &http.Client{Timeout: startLimit, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", filepath.Join(dir, "a.sock"))
		},
	}}
	t.Cleanup(p.admin.CloseIdleConnections)
	return p
}

// configure gives the daemon a file.
func (p *process) configure(yaml string) {
	p.Helper()
	file := filepath.Join(p.dir, "config.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		p.Fatal(err)
	}
	p.args = []string{"--config", file}
}

// command is registryd as the daemon would run it.
func (p *process) command(args ...string) *exec.Cmd {
	p.Helper()
	binary, err := exec.LookPath("registryd") // testscript has put it there
	if err != nil {
		p.Fatal(err)
	}
	cmd := exec.Command(binary, append(args, p.args...)...)
	cmd.Env, cmd.Dir = p.env, filepath.Join(p.dir, "home")
	return cmd
}

// start runs the daemon and waits until it is ready. The test's end stops it, if
// nothing else did.
func (p *process) start() {
	p.Helper()
	path := filepath.Join(p.dir, "notify")
	os.Remove(path) // of the start before this one
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		p.Fatal(err)
	}
	defer notify.Close()
	p.log.Reset()
	p.cmd = p.command("serve")
	p.cmd.Stderr = &p.log
	begun := time.Now()
	if err := p.cmd.Start(); err != nil {
		p.Fatal(err)
	}
	ended := make(chan error, 1)
	p.ended = ended
	go func(cmd *exec.Cmd) {
		ended <- cmd.Wait()
		notify.Close() // nobody is going to speak any more
	}(p.cmd)
	p.Cleanup(p.stop)
	notify.SetReadDeadline(time.Now().Add(startLimit))
	said := make([]byte, 4096)
	n, err := notify.Read(said)
	if err != nil {
		p.stop()
		p.Fatalf("the daemon did not become ready: %v; it said\n%s", err, &p.log)
	}
	p.ready = time.Since(begun)
	_, p.address, _ = strings.Cut(string(said[:n]), "STATUS=serving on ")
}

// stop ends the daemon as a service manager does; it must end well.
func (p *process) stop() {
	p.Helper()
	if p.cmd == nil {
		return
	}
	p.cmd.Process.Signal(syscall.SIGTERM) // fails if it has ended
	err := <-p.ended
	p.cmd = nil
	if err != nil {
		p.Errorf("the daemon ended with %v and said\n%s", err, &p.log)
	}
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
