package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hostlocal/cmd/testdeps/need"
)

// A served is one path and the file whose bytes it has.
type served struct{ path, file, mediaType string }

// nginx serves the files as Debian's nginx does, with sendfile and without a log,
// and a worker for each CPU. The daemon's own files are meant: what differs is who
// sends them.
func nginx(t testing.TB, files []served) contender {
	t.Helper()
	binary := need.Binary(t, "nginx")
	dir, address := t.TempDir(), unused(t)
	var locations strings.Builder
	for _, f := range files {
		fmt.Fprintf(&locations, "location = %s { default_type %s; alias %s; }\n", f.path, f.mediaType, f.file)
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;" // the cache's folder is for nobody else
	}
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`
daemon off; pid %[1]s/pid; error_log stderr; worker_processes auto; %[2]s
events { worker_connections 1024; }
http {
  sendfile on; tcp_nopush on; access_log off;
  keepalive_requests 1000000000; # the default of 1,000 would have it connect anew
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
  server { listen %[3]s; types {} %[4]s }
}`, dir, user, address, &locations)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-c", conf, "-p", dir, "-e", "stderr")
	var said strings.Builder
	cmd.Stderr = &said
	startChild(t, cmd)
	for end := time.Now().Add(startLimit); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatalf("nginx does not answer: %v; it said\n%s", err, &said)
		}
	}
	return contender{"nginx", address, func() []int { return family(t, cmd.Process.Pid) }}
}

// startChild starts a program that the test's end stops.
func startChild(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait() // killed by the signal, or not
	})
}

// bare starts the program bareMain on the files, in a process of its own.
func bare(t testing.TB, files []served) contender {
	t.Helper()
	binary, err := exec.LookPath("bare") // testscript has put it there
	if err != nil {
		t.Fatal(err)
	}
	var args []string
	for _, f := range files {
		args = append(args, f.path, f.file, f.mediaType)
	}
	cmd := exec.Command(binary, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	startChild(t, cmd)
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the bare server did not say its address: %v", err)
	}
	return contender{"bare", strings.TrimSpace(address), func() []int { return []int{cmd.Process.Pid} }}
}

// bareMain is the program bare PATH FILE TYPE...: what net/http costs by itself.
// It writes each file from memory with the two headers that there must be, and
// prints its address.
func bareMain() {
	mux := http.NewServeMux()
	for args := os.Args[1:]; len(args) >= 3; args = args[3:] {
		body, err := os.ReadFile(args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, "bare:", err)
			os.Exit(1)
		}
		kind, length := args[2], strconv.Itoa(len(body))
		mux.HandleFunc("GET "+args[0], func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Content-Length", length)
			w.Write(body)
		})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(1)
	}
	io.WriteString(os.Stdout, l.Addr().String()+"\n")
	fmt.Fprintln(os.Stderr, "bare:", http.Serve(l, mux))
}
