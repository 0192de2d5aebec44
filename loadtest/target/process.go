package target

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// The bounds of a child's life.
const (
	startLimit = 30 * time.Second // until it answers: ten times what any needs here on a busy machine
	stopLimit  = 6 * time.Second  // until it is killed: registryd promises to be gone within 5 s
	poll       = 10 * time.Millisecond
)

// A process is a child of ours with its log.
type process struct {
	name  string
	url   string
	cmd   *exec.Cmd
	log   *tail
	ended chan struct{} // closed when it has ended, whoever ended it
	cause error         // of the end; to be read after it
}

// startProcess runs the binary in dir, with an environment of its own: the
// settings and the credentials of whoever runs the test are not the contender's.
func startProcess(name, binary, dir string, p plan) (*process, error) {
	child := &process{name: name, url: p.url, cmd: exec.Command(binary, p.args...), log: newTail(), ended: make(chan struct{})}
	child.cmd.Dir = dir
	child.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + filepath.Join(dir, "tmp"),
	}, p.env...)
	child.cmd.Stdout, child.cmd.Stderr = child.log, child.log
	// Its own process group: ctrl-C at the terminal is for us, who then stop it.
	child.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if p.gentle {
		child.cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	}
	child.cmd.WaitDelay = stopLimit // for the log, if a grandchild has it open
	if err := spawn(child.cmd); err != nil {
		return nil, fmt.Errorf("%s %w: %w", name, ErrStart, err)
	}
	go func() {
		child.cause = child.cmd.Wait()
		close(child.ended)
	}()
	return child, nil
}

// spawner is the thread that starts all children, and never ends: the kernel sends
// the death signal when the thread ends that started the child, not the process.
var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

func spawn(cmd *exec.Cmd) error {
	done := make(chan error)
	spawner() <- func() { done <- cmd.Start() }
	return <-done
}

// answers waits until url is answered with success. The error has what the child
// said last.
func (p *process) answers(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		if ok(ctx, client, url) {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s %w: it %s", p.name, ErrStart, p.obituary())
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				return fmt.Errorf("%s %w: no answer at %s within %v; it said last:\n%s", p.name, ErrStart, url, startLimit, p.log)
			}
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func ok(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// obituary says how the child ended, and what it said before. It has ended.
func (p *process) obituary() string {
	how := "ended"
	if p.cause != nil {
		how = "ended with " + p.cause.Error()
	}
	return fmt.Sprintf("%s; it said last:\n%s", how, p.log)
}

// stop ends the child, by force if need be, and waits for it.
func (p *process) stop() error {
	select {
	case <-p.ended:
		return nil
	default:
	}
	p.cmd.Process.Signal(syscall.SIGTERM) // fails if it has just ended
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopLimit):
	}
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // the group: nginx's workers too
	<-p.ended
	return nil
}
