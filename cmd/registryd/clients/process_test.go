package clients

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"hostlocal/cmd/testdeps/need"
)

const (
	// patience bounds everything that a test waits for. It is reached only
	// when something hangs; a noisy machine must not look like one that does.
	patience = 3 * time.Minute
	// stopPatience is what a daemon has between SIGTERM and SIGKILL.
	stopPatience = 30 * time.Second
)

// scratch is a new folder that stays until the whole run is over; see workKey.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(os.Getenv(workKey), "")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// process is a daemon of the test.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
	once sync.Once
}

// start runs a daemon until the test ends. What it printed is shown if the
// test failed.
func start(t *testing.T, env []string, path string, args ...string) *process {
	t.Helper()
	return startIn(t, "", env, path, args...)
}

// enterRoot makes a folder the root of a mount namespace of its own and runs a
// program there. A chroot will not do for an engine: what is executed in its
// containers later would see the root outside of it.
const enterRoot = `cd "$0" && pivot_root . . && umount -l . && cd / && exec "$@"`

// startIn is start for a program of another root file system, and for the
// usual one if root is empty.
func startIn(t *testing.T, root string, env []string, path string, args ...string) *process {
	t.Helper()
	name := filepath.Base(path)
	if root != "" {
		args = append([]string{"--mount", "sh", "-c", enterRoot, root, path}, args...)
		path = need.Binary(t, "unshare")
	}
	p := &process{t: t, name: name, cmd: exec.Command(path, args...), done: make(chan struct{})}
	p.log = filepath.Join(scratch(t), p.name+".log")
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			p.showLog()
		}
	})
	return p
}

// stop asks the daemon to end, and insists.
func (p *process) stop() {
	p.once.Do(func() {
		p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(stopPatience):
			p.t.Errorf("%s did not end within %s of SIGTERM", p.name, stopPatience)
			p.cmd.Process.Kill()
			<-p.done
		}
	})
}

// kill ends the daemon as a crash would.
func (p *process) kill() {
	p.once.Do(func() {
		p.cmd.Process.Kill()
		<-p.done
	})
}

// showLog prints the end of the log, which is where the trouble is.
func (p *process) showLog() {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return
	}
	const most = 6 << 10
	p.t.Logf("%s said:\n%s", p.name, text[max(0, len(text)-most):])
}

// ready waits until check succeeds, and fails the test at once if the daemon
// has ended instead.
func (p *process) ready(check func() error) {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-p.done:
			p.t.Fatalf("%s ended instead of becoming ready: %v", p.name, err)
		case <-deadline:
			p.t.Fatalf("%s is not ready after %s: %v", p.name, patience, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// answers is a check for ready: any answer below 500 will do.
func answers(url string) func() error {
	return func() error {
		resp, err := http.Get(url)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode >= 500 {
			return fmt.Errorf("%s: %s", url, resp.Status)
		}
		return nil
	}
}

// run runs a client to its end and returns what it printed.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	out, err := try(t, env, name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

// try is run for a client that may fail.
func try(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	return tryIn(t, "", env, need.Binary(t, name), args...)
}

// tryIn is try for a program, by its path, of another root file system.
func tryIn(t *testing.T, root string, env []string, path string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), env...)
	if root != "" {
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	}
	// Engines leave helpers with the client's pipes open; do not wait for them.
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}
