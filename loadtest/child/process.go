// Package child runs the programs of a load test as processes of their own: the
// contenders and the servers behind them. A child has an environment and a folder
// of its own, its last lines stand in the error when it ends, and it does not
// outlive this process, however that ends.
package child

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

// What keeps a child from being there.
var (
	ErrBinary = errors.New("no binary")      // nothing to start
	ErrStart  = errors.New("does not start") // it ended, or did not answer in time
)

// A Spec says what is started.
type Spec struct {
	Name   string // for messages
	Binary string // path
	Args   []string
	Env    []string // beside PATH, HOME and TMPDIR
	Dir    string   // the working folder and HOME; it is there, and has a folder tmp
	Arg0   string   // what it is called in its own eyes; "" is Binary
	Conn   *os.File // becomes its descriptor 3; nil is none. Whoever calls Start closes it
	Gentle bool     // it has processes of its own, which only it can end: no SIGKILL when we end
}

// A Process is a child with its log.
type Process struct {
	name  string
	cmd   *exec.Cmd
	log   tail
	ended chan struct{} // closed when it has ended, whoever ended it
	cause error         // of the end; to be read after it
}

// Start runs a child. The settings and the credentials of whoever runs the test are
// not the child's. Stop ends it. The error wraps ErrStart.
func Start(s Spec) (*Process, error) {
	p := &Process{name: s.Name, cmd: exec.Command(s.Binary, s.Args...), ended: make(chan struct{})}
	p.cmd.Dir = s.Dir
	if s.Arg0 != "" {
		p.cmd.Args[0] = s.Arg0
	}
	if s.Conn != nil {
		p.cmd.ExtraFiles = []*os.File{s.Conn}
	}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir, "TMPDIR=" + filepath.Join(s.Dir, "tmp")}, s.Env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	// Its own process group: ctrl-C at the terminal is for us, who then stop it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if s.Gentle {
		p.cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	}
	p.cmd.WaitDelay = stopLimit // for the log, if a grandchild has it open
	if err := spawn(p.cmd); err != nil {
		return nil, fmt.Errorf("%s %w: %w", s.Name, ErrStart, err)
	}
	go func() {
		p.cause = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
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

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed when the child has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Said reports whether the end of its log has the text.
func (p *Process) Said(text string) bool { return p.log.contains(text) }

// Answers waits until GET of url succeeds. The error wraps ErrStart and has what
// the child said last, unless it is ctx's.
func (p *Process) Answers(ctx context.Context, url string) error {
	limited, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for !ok(limited, url) {
		select {
		case <-p.ended:
			return fmt.Errorf("%s %w: it %s", p.name, ErrStart, p.Obituary())
		case <-limited.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%s %w: no answer at %s within %v; it said last:\n%s", p.name, ErrStart, url, startLimit, &p.log)
		case <-tick.C:
		}
	}
	return nil
}

// patience bounds one question: a server that takes longer is asked anew.
const patience = 2 * time.Second

func ok(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return false
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Obituary says how the child ended, and what it said before. It has ended.
func (p *Process) Obituary() string {
	how := "ended"
	if p.cause != nil {
		how = "ended with " + p.cause.Error()
	}
	return fmt.Sprintf("%s; it said last:\n%s", how, &p.log)
}

// Stop ends the child, by force if need be, and waits for it.
func (p *Process) Stop() {
	p.cmd.Process.Signal(syscall.SIGTERM) // fails if it has ended
	select {
	case <-p.ended:
		return
	case <-time.After(stopLimit):
	}
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // the group: nginx's workers too
	<-p.ended
}
