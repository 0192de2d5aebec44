package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A node is one daemon of the world, in this process or in one of its own, at an
// address that outlives it.
type node struct {
	w     *world
	name  string
	dir   string // of the cache
	cfg   string
	apart bool // a process of its own
	http  *http.Client
	admin *http.Client
	log   *lastLines

	restarting sync.Mutex // held over a restart

	mu      sync.Mutex // guards what follows
	up      chan struct{}
	lives   int // how often it was started
	leave   func(kill bool)
	damaged map[string]damage // files that this test made wrong, by path
	strange int64             // bytes that were put into the folder behind the daemon's back since it started
}

func newNode(w *world, dir, sdk string, apart bool) *node {
	n := &node{w: w, name: filepath.Base(dir), dir: filepath.Join(dir, "cache"), cfg: filepath.Join(dir, "registryd.yaml"),
		apart: apart, up: make(chan struct{}), damaged: map[string]damage{}, log: &lastLines{}}
	check(w, os.Mkdir(dir, 0o700))
	n.http, n.admin = overUnix(filepath.Join(dir, "r.sock")), overUnix(filepath.Join(dir, "a.sock"))
	w.Cleanup(func() {
		n.http.CloseIdleConnections()
		n.admin.CloseIdleConnections()
	})
	text := fmt.Sprintf(`
listen: unix://%[1]s/r.sock
admin: unix://%[1]s/a.sock
cache: {dir: %[2]s, size: %[3]d, keep_free: 0}
push: loopback
store:
%[4]s
upstreams:
  docker.io: {url: %[5]q, tags: [{match: "*", policy: ttl, ttl: %[6]s}]}
`, dir, n.dir, modelBudget, s3Bucket{w.s3, sdk}.config(), w.hub.URL, modelTTL)
	check(w, os.WriteFile(n.cfg, []byte(text), 0o600))
	return n
}

func overUnix(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		MaxIdleConnsPerHost: modelClients,
		DisableCompression:  true,
	}}
}

// life waits until the daemon is up, and returns which of its lives it has.
func (n *node) life() int {
	for {
		n.mu.Lock()
		up, life := n.up, n.lives
		n.mu.Unlock()
		select {
		case <-up:
			return life
		case <-n.w.over.Done():
			return life
		}
	}
}

// lived reports whether the daemon has been up since it had that life.
func (n *node) lived(life int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.up:
		return n.lives == life
	default:
		return false
	}
}

// start starts the daemon and returns when it answers.
func (n *node) start() {
	n.w.Helper()
	begin := n.startInside
	if n.apart {
		begin = n.startApart
	}
	leave, err := begin()
	if err != nil {
		n.w.found("daemon %s did not start: %v", n.name, err)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lives++
	n.leave = leave
	n.strange = 0
	close(n.up)
}

// stop ends the daemon; one in a process of its own may be killed.
func (n *node) stop() { n.end(false) }

func (n *node) end(kill bool) {
	n.mu.Lock()
	leave := n.leave
	n.leave = nil
	if leave != nil {
		n.up = make(chan struct{})
	}
	n.mu.Unlock()
	if leave != nil {
		leave(kill)
	}
	n.http.CloseIdleConnections()
	n.admin.CloseIdleConnections()
}

// restart ends the daemon and starts it again; while it is down, meanwhile is run.
func (n *node) restart(kill bool, meanwhile func()) {
	n.restarting.Lock()
	defer n.restarting.Unlock()
	n.end(kill)
	meanwhile()
	if n.w.ok() {
		n.start()
	}
}

// startInside runs serve in this process. Its goroutines carry the daemon's label,
// and none may be there when it has ended.
func (n *node) startInside() (leave func(bool), err error) {
	c, _, err := load(n.cfg, nil)
	if err != nil {
		return nil, err
	}
	c.store.stageFrom = modelStage
	rec := &recorder{serving: make(chan map[string]string, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	label := fmt.Sprintf("%d/%s/%d", n.w.seed, n.name, n.lives)
	go pprof.Do(ctx, pprof.Labels("modelDaemon", label), func(ctx context.Context) {
		ended <- serve(ctx, c, slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{ReplaceAttr: rec.notice})))
	})
	select {
	case <-rec.serving:
	case err := <-ended:
		cancel()
		return nil, fmt.Errorf("it ended: %v", err)
	case <-time.After(startLimit):
		cancel()
		return nil, errors.New("it does not become ready")
	}
	return func(bool) {
		cancel()
		if err := <-ended; err != nil {
			n.w.found("daemon %s ended with: %v", n.name, err)
		}
		n.wantNoGoroutines(label)
	}, nil
}

// notice tells who waits that the daemon serves.
func (r *recorder) notice(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.MessageKey && a.Value.String() == "serving" {
		r.serving <- nil
	}
	return a
}

// wantNoGoroutines checks that what the daemon started has ended.
func (n *node) wantNoGoroutines(label string) {
	n.w.Helper()
	var left string
	for end := time.Now().Add(5*time.Second + n.w.noise.late()); ; time.Sleep(5 * time.Millisecond) {
		var all bytes.Buffer
		pprof.Lookup("goroutine").WriteTo(&all, 1)
		left = ""
		for g := range strings.SplitSeq(all.String(), "\n\n") {
			if strings.Contains(g, fmt.Sprintf("%q", label)) {
				left += g + "\n\n"
			}
		}
		if left == "" {
			return
		}
		if time.Now().After(end) {
			n.w.found("daemon %s left goroutines behind:\n%s", n.name, left)
			return
		}
	}
}

// startApart runs the program.
func (n *node) startApart() (leave func(bool), err error) {
	binary, err := exec.LookPath("registryd") // testscript has put it there
	if err != nil {
		return nil, err
	}
	said := filepath.Join(filepath.Dir(n.cfg), "notify")
	os.Remove(said)
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: said, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	defer notify.Close()
	cmd := exec.Command(binary, "serve", "--config", n.cfg)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+said, fmt.Sprintf("%s=%d", stageEarly, modelStage))
	cmd.Stderr = n.log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	notify.SetReadDeadline(time.Now().Add(startLimit))
	if _, err := notify.Read(make([]byte, 4096)); err != nil {
		cmd.Process.Kill()
		return nil, errors.Join(err, cmd.Wait())
	}
	return func(kill bool) {
		if kill {
			cmd.Process.Kill()
			cmd.Wait() // says that it was killed
			return
		}
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			n.w.found("daemon %s ended with: %v", n.name, err)
		}
	}, nil
}

// said is the end of the daemon's log.
func (n *node) said() string { return n.log.String() }

// lastLines is a writer that keeps the end of what is written.
type lastLines struct {
	mu  sync.Mutex // guards buf
	buf []byte
}

// lastLinesSize bounds what is kept, in bytes.
const lastLinesSize = 8 << 10

func (l *lastLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	if len(l.buf) > 2*lastLinesSize {
		l.buf = append(l.buf[:0], l.buf[len(l.buf)-lastLinesSize:]...)
	}
	return len(p), nil
}

func (l *lastLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.buf[max(0, len(l.buf)-lastLinesSize):])
}

// order sends a POST to the admin API and returns the status and the body.
func (n *node) order(what, image string) (int, string, error) {
	resp, err := n.admin.Post("http://admin/api/v1/"+what, "application/json", strings.NewReader(fmt.Sprintf(`{"image": %q}`, image)))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, string(body), err
}

// status is what the admin API says of the daemon.
func (n *node) status() (int, string, error) {
	resp, err := n.admin.Get("http://admin/api/v1/status")
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, string(body), err
}
