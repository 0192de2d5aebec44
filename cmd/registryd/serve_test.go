package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hostlocal/registryd/upstream/hubtest"
)

// A daemon of this process that takes too long to stop, because the disk does, must not end
// the tests. The program registryd is this binary too, and keeps its limit.
func init() {
	if filepath.Base(os.Args[0]) != "registryd" {
		workLimit, stopLimit = 30*time.Second, time.Minute
	}
}

// served starts a daemon in this process on unix sockets, with the hub as its
// only upstream, and returns how to stop it and wait for its end.
func (t *tester) served(h *hubtest.Hub) (c *config, stop func() error) {
	t.Helper()
	c = t.good(fmt.Sprintf(`
listen: unix://%[1]s/r.sock
admin: unix://%[1]s/a.sock
cache: {dir: %[1]s/cache}
store: {url: 'file://%[1]s/store'}
upstreams: {hub.test: {url: "%[2]s"}}
`, t.dir, h.URL))
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", manager.LocalAddr().String())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, c, slog.New(slog.DiscardHandler)) }()
	stop = func() error { cancel(); return <-ended }
	manager.SetReadDeadline(time.Now().Add(startLimit))
	buf := make([]byte, 4096)
	if n, err := manager.Read(buf); err != nil || !strings.HasPrefix(string(buf[:n]), "READY=1") {
		cancel()
		t.Fatalf("the daemon said %q, %v; it ended with %v", buf[:n], err, <-ended)
	}
	return c, stop
}

func TestStopDoesNotWaitForClientsThatStall(t *testing.T) {
	tt := newTester(t)
	h := hubtest.New(t)
	img := h.AddImage("library/app", "v1", h.Layer(64<<20))
	c, stop := tt.served(h)
	path := strings.TrimPrefix(c.listen[0], "unix://")
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /v2/hub.test/library/app/blobs/%s HTTP/1.1\r\nHost: registry\r\n\r\n", img.Layers[0].Digest)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("got %v, %v", resp, err)
	}
	// The client has its header and reads no further: the daemon is stuck on it.

	watch := startWatch()
	if err := stop(); err != nil {
		t.Errorf("the daemon ended with %v", err)
	}
	if took := watch.took(); took > 5*time.Second+noise {
		t.Errorf("the daemon took %v to end, more than 5 s", took)
	}
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("there is still a listener")
	}
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("the client that stalled was given an end, as if it had everything")
	}
}

func TestInheritedSocketTakesThePlaceOfListen(t *testing.T) {
	tt := newTester(t)
	binary, err := exec.LookPath("registryd") // testscript has put it there
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fd, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	// LISTEN_PID is the daemon's own, which sh has before it becomes the daemon.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" serve`, binary)
	cmd.ExtraFiles = []*os.File{fd} // as descriptor 3
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=http",
		"REGISTRYD_LISTEN=unix://"+tt.dir+"/unused.sock", "REGISTRYD_ADMIN=unix://"+tt.dir+"/a.sock",
		"REGISTRYD_CACHE_DIR="+tt.dir+"/cache", "REGISTRYD_STORE_URL=file://"+tt.dir+"/store")
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// No wait for readiness: the socket is there, and clients queue in it.
	client := http.Client{Timeout: startLimit}
	resp, err := client.Get("http://" + l.Addr().String() + "/v2/")
	if err != nil {
		t.Error(err)
	} else {
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("/v2/ answered %s", resp.Status)
		}
	}
	if _, err := os.Stat(filepath.Join(tt.dir, "unused.sock")); err == nil {
		t.Error("listen was opened too")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM the daemon ended with %v and said\n%s", err, log.String())
	}
}

func TestSocketsOfTheDeadAreTakenAndFilesAreNot(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "r.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	l, err := openSocket(t.Context(), "unix://"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket is %v, %v; want -rw-rw----", info, err)
	}
	if _, err := openSocket(t.Context(), "unix://"+path); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a socket in use was opened again: %v", err)
	}
	plain := filepath.Join(dir, "notes")
	if err := os.WriteFile(plain, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openSocket(t.Context(), "unix://"+plain); err == nil {
		t.Error("a file was taken for a socket")
	}
	if text, err := os.ReadFile(plain); string(text) != "mine" {
		t.Errorf("the file is %q, %v", text, err)
	}
	if _, err := openSocket(t.Context(), l.Addr().String()); err == nil {
		t.Error("an address that is none was listened on")
	}
}

func TestWatchdogsQuestionIsAnsweredOnlyByARegistry(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var status atomic.Int32
	status.Store(http.StatusOK)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			w.WriteHeader(int(status.Load()))
		}
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	ask := alive(l)
	if err := ask(t.Context()); err != nil {
		t.Errorf("well, and the question says %v", err)
	}
	status.Store(http.StatusInternalServerError)
	if err := ask(t.Context()); err == nil {
		t.Error("broken, and the question is content")
	}
	server.Close()
	<-ended
	if err := ask(t.Context()); err == nil {
		t.Error("gone, and the question is content")
	}
}
