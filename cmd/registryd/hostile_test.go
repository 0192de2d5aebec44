package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"hostlocal/registryd/upstream/hubtest"
)

// A stranger is a server that nobody has configured.
type stranger struct {
	host    string // 127.0.0.2:port, since another port of the upstream's address is no stranger to it
	visited atomic.Int64
}

func newStranger(t *testing.T) *stranger {
	t.Helper()
	s := &stranger{}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("{}")) }),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				s.visited.Add(1)
			}
		}}
	s.host = serveOn(t, server)
	t.Cleanup(func() {
		if n := s.visited.Load(); n > 0 {
			t.Errorf("a server that nobody has configured was connected to %d times", n)
		}
	})
	return s
}

// serveOn runs a server until the test's end, at an address that is not the
// upstream's, and returns it.
func serveOn(t *testing.T, server *http.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	check(t, err)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		<-ended
	})
	return l.Addr().String()
}

// raw sends bytes to the daemon and returns the answer's status.
func (h *host) raw(request string) (int, error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	go conn.Write([]byte(request)) // it may be more than is read
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.StatusCode, nil
}

// get is a request without a body for a target, as it is.
func get(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: registry\r\n\r\n" }

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

// hostileTargets are paths and queries that mean nothing good.
func hostileTargets(s *stranger, image hubtest.Image) []string {
	blob := image.Layers[0].Digest
	targets := []string{
		"/", "/v1/", "/v2x", "/..", "/../../../../etc/passwd", "/v2/../secret", "/v2/../../secret", "/v2/./library/../../secret",
		"//v2/library/app/manifests/v1", "/v2//library/app/manifests/v1", "/v2/library//app/manifests/v1", "/v2/library/app//manifests/v1",
		"/v2/%2e%2e/%2e%2e/secret", "/v2/%2e%2e%2f%2e%2e%2fsecret/manifests/v1", "/v2/..%2f..%2fsecret/manifests/v1",
		"/v2/library%2fapp/manifests/v1", "/v2/library/app/manifests/..", "/v2/library/app/manifests/%2e%2e", "/v2/library/app/manifests/..%2f..%2fsecret",
		"/v2/library/../app/manifests/v1", "/v2/./manifests/v1", "/v2/../manifests/v1", "/v2/.../manifests/v1",
		"/v2/library/app/manifests/", "/v2/library/app/manifests", "/v2/manifests/v1", "/v2/library/app/blobs/", "/v2/library/app/tags/", "/v2/library/app/tags/list/more",
		"/v2/library/app%00/manifests/v1", "/v2/library/app/manifests/v1%00", "/v2/%00/manifests/v1", "/v2/library/app/blobs/sha256:%00",
		"/v2/library/app%0d%0aX-Evil:%20yes/manifests/v1", "/v2/library/app/manifests/v1%0a", "/v2/library/app/manifests/%ff%fe", "/v2/library/\xff/manifests/v1",
		"/v2/LIBRARY/App/manifests/v1", "/v2/library/app/manifests/-v1", "/v2/-/manifests/v1", "/v2/library/app\\..\\..\\secret/manifests/v1", "/v2/library/~root/manifests/v1",
		"/v2/library/app/blobs/sha256:../../../secret", "/v2/library/app/blobs/sha256:", "/v2/library/app/blobs/sha256:00", "/v2/library/app/blobs/sha256:" + zeros + "0",
		"/v2/library/app/blobs/SHA256:" + zeros, "/v2/library/app/blobs/md5:" + zeros[:32], "/v2/library/app/blobs/sha512:" + zeros, "/v2/library/app/blobs/" + zeros,
		"/v2/library/app/blobs/" + strings.ToUpper(blob.String()), "/v2/library/app/blobs/sha256:" + strings.Repeat("g", 64), "/v2/library/app/blobs/sha256%3a../" + zeros,
		"/v2/library/other/blobs/" + blob.String(), "/v2/library/app/manifests/" + blob.String() + "@x",
		"/v2/" + strings.Repeat("a", 300) + "/manifests/v1", "/v2/library/app/manifests/" + strings.Repeat("v", 129), "/v2/" + strings.Repeat("a/", 130) + "b/manifests/v1",
		"/v2/" + strings.Repeat("../", 2000) + "secret", "/v2/" + strings.Repeat("%2e%2e/", 1000) + "secret", "/v2/" + strings.Repeat("x", 1<<20) + "/manifests/v1",
		"/v2/library/app/manifests/v1?" + strings.Repeat("a=b&", 2000), "/v2/_catalog?n=-1", "/v2/_catalog?n=x", "/v2/library/app/tags/list?n=99999999999999999999",
		"/v2/" + s.host + "/library/app/manifests/v1", "/v2/localhost:1/library/app/manifests/v1", "/v2/evil.test/library/app/manifests/v1", "/v2/169.254.169.254/latest/manifests/v1",
		"/healthz", "/metrics", "/debug/pprof/", "/api/v1/status", "/registryd/probe", "/etc/passwd",
	}
	for _, ns := range []string{s.host, "http://" + s.host, s.host + "/library", "evil.test", "docker.io@" + s.host, "docker.io%00", "docker.io%0d%0aHost:%20" + s.host,
		"..", "../..", "%2e%2e%2f", "/etc", "169.254.169.254", "[::1]:80", "localhost", "docker.io:443:80", "%zz", "docker.io&ns=" + s.host, strings.Repeat("a", 300), "file:///etc/passwd"} {
		targets = append(targets, "/v2/library/app/manifests/v1?ns="+ns, "/v2/library/app/blobs/"+blob.String()+"?ns="+ns)
	}
	return targets
}

// hostileRequests are whole requests, beyond their paths.
func hostileRequests(s *stranger, image hubtest.Image) []string {
	ok := "/v2/library/app/manifests/v1"
	requests := []string{
		"GET " + ok + " HTTP/1.1\r\n\r\n",
		"GET " + ok + " HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"GET " + ok + " HTTP/1.1\r\nHost: a b\r\n\r\n",
		"GET " + ok + " HTTP/1.1\r\nHost: r\r\nX-Big: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
		"GET " + ok + " HTTP/1.1\r\nHost: r\r\n" + strings.Repeat("X-Many: y\r\n", 20_000) + "\r\n",
		"GET " + ok + " HTTP/1.1\r\nHost: r\r\nBad Header: x\r\n\r\n",
		"GET " + ok + " HTTP/1.1\r\nHost: r\r\nX-Nul: a\x00b\r\n\r\n",
		"GET " + ok + " HTTP/1.1\r\nHost: r\r\nOrigin: http://evil.test\r\n\r\n",
		"GET " + ok + " HTTP/1.1\r\nHost: r\r\nContent-Length: -1\r\n\r\n",
		"GET " + ok + " HTTP/1.1\r\nHost: r\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"\x00\x01\x02\x03 / HTTP/1.1\r\n\r\n",
		"GET\r\n\r\n",
		"GET /v2/library/app/manifests/v1 secret HTTP/1.1\r\nHost: r\r\n\r\n",
		"CONNECT " + s.host + " HTTP/1.1\r\nHost: " + s.host + "\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: r\r\n\r\n",
		"GET http://" + s.host + "/secret HTTP/1.1\r\nHost: " + s.host + "\r\n\r\n",
		"GET /v2/library/app/blobs/" + image.Layers[0].Digest.String() + " HTTP/1.1\r\nHost: r\r\nRange: bytes=99999999999-\r\n\r\n",
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "get", strings.Repeat("M", 1000)} {
		requests = append(requests, method+" "+ok+" HTTP/1.1\r\nHost: r\r\nContent-Length: 0\r\n\r\n")
	}
	requests = append(requests,
		"POST /v2/library/app/blobs/uploads/?digest="+image.Layers[0].Digest.String()+" HTTP/1.1\r\nHost: r\r\nContent-Length: 99999999999\r\n\r\n",
		"PUT "+ok+" HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n")
	return requests
}

// outside lists all that is in the test's folders but not in the cache or the store.
func (h *host) outside() (names []string) {
	h.Helper()
	store := h.bucket.(folderBucket).dir
	err := filepath.WalkDir(filepath.Dir(filepath.Dir(h.dir)), func(path string, e fs.DirEntry, err error) error {
		if path == h.dir || path == store {
			return fs.SkipDir
		}
		names = append(names, path)
		return err
	})
	check(h, err)
	return names
}

func TestHostileRequestsGetA4xx(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s := newStranger(t)
	image := h.image(1<<20, 300)
	h.pull(image.Name())
	h.awaitImageStored(image)
	check(t, os.WriteFile(filepath.Join(filepath.Dir(h.dir), "secret"), []byte("secret"), 0o600))
	before := h.outside()

	stop := make(chan struct{})
	var others errgroup.Group
	others.Go(func() error {
		for {
			select {
			case <-stop:
				return nil
			default:
				if _, err := containerd(h.url).pull(t.Context(), image.Name()); err != nil {
					return fmt.Errorf("a client that does no harm: %w", err)
				}
			}
		}
	})
	requests := hostileRequests(s, image)
	for _, target := range hostileTargets(s, image) {
		requests = append(requests, get(target))
	}
	var all errgroup.Group
	all.SetLimit(16)
	for _, r := range requests {
		all.Go(func() error {
			if status, err := h.raw(r); err != nil || status < 400 || status > 499 {
				t.Errorf("%.150q: got %d, %v; want 4xx", r, status, err)
			}
			return nil
		})
	}
	check(t, all.Wait())
	close(stop)
	check(t, others.Wait())

	if after := h.outside(); len(after) != len(before) {
		t.Errorf("outside the folders there was\n%s\nand is now\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	for _, q := range h.up.Requests(nil) {
		if q.Repo != image.Repo && q.Repo != "library/other" && q.Repo != "" {
			t.Errorf("the upstream was asked for %s", q.Path)
		}
	}
	if lines := h.log.warnings(); len(lines) > 1 {
		t.Errorf("strangers filled the log:\n%s", strings.Join(lines, "\n"))
	}
}

// A token server that is not of the upstream's site gets neither credentials nor a
// visit, and a manifest's foreign URLs are nobody's business here.
func TestUpstreamsLeadNowhereElse(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s := newStranger(t)
	image := h.image(300)
	h.up.AddManifest("library/foreign", "v1", image.MediaType,
		[]byte(strings.Replace(string(image.Body), `"digest": "`+image.Layers[0].Digest.String(), `"urls": ["http://`+s.host+`/layer"], "digest": "`+image.Layers[0].Digest.String(), 1)))
	if a := h.ask(http.MethodGet, "/v2/library/foreign/manifests/v1"); a.StatusCode != http.StatusOK || !strings.Contains(string(a.body), s.host) {
		t.Fatalf("%s: %s", a.Status, a.body)
	}
	h.wantError(h.ask(http.MethodGet, "/v2/library/foreign/blobs/"+image.Layers[0].Digest.String()), http.StatusNotFound)

	h.stop()
	h.reconfigure(fmt.Sprintf("{url: %q", h.up.URL), fmt.Sprintf("{url: %q, username: somebody, password: secret", h.up.URL))
	h.start()
	h.up.Require(hubtest.Auth{Username: "somebody", Password: "secret", Realm: "http://" + s.host + "/token"})
	if a := h.tag(http.MethodGet, image); a.StatusCode < 400 || strings.Contains(string(a.body), "secret") {
		t.Errorf("%s: %s", a.Status, a.body)
	}
}

// Half a request holds a connection for as long as headers may take, and nobody
// else.
func TestHalfOpenRequestsAffectNobody(t *testing.T) {
	t.Parallel()
	const many, most = 1000, 30 * time.Second
	raiseDescriptors(t, 4_000)
	h, _ := newProgram(t)
	image := h.image(1<<20, 300)
	h.pull(image.Name())
	h.awaitImage(image)
	halves := []string{"", "GET /v2/", "GET /v2/ HTTP/1.1\r\nHost: regis", "POST /v2/library/app/blobs/uploads/ HTTP/1.1\r\nHost: r\r\nContent-Length: 100\r\n\r\nhalf"}
	conns := h.dialAll(many, func(i int, conn net.Conn) error {
		_, err := conn.Write([]byte(halves[i%len(halves)]))
		return err
	})
	for i := range 5 {
		watch := startWatch()
		h.pull(image.Name())
		h.pull(h.up.AddImage("library/cold", fmt.Sprint("v", i), h.up.Layers(256<<10)...).Name())
		if took := watch.took(); took > 2*nextAnswers {
			t.Errorf("beside %d requests that do not end two pulls took %v", many, took)
		}
	}
	deadline := time.Now().Add(most)
	for i, conn := range conns {
		check(t, conn.SetReadDeadline(deadline))
		var err error
		for buf := make([]byte, 4<<10); err == nil; {
			_, err = conn.Read(buf)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("connection %d, which sent %q, is still open after %v", i, halves[i%len(halves)], most)
		}
	}
}

// Above 4,096 connections the longest idle is closed; whoever pulls notices nothing.
func TestIdleConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	const many, bound = 10_000, 4096
	raiseDescriptors(t, many+2_000)
	h, p := newProgram(t)
	image := h.image(1<<20, 300)
	h.pull(image.Name())
	h.awaitImage(image)
	conns := h.dialAll(many, func(_ int, conn net.Conn) error {
		if _, err := conn.Write([]byte(get("/v2/"))); err != nil {
			return err
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	h.pull(image.Name())
	h.pull(h.up.AddImage("library/cold", "v1", h.up.Layers(256<<10)...).Name())
	open := conns
	h.awaitWithin(5*time.Minute, "the longest idle to be closed", func() bool {
		var still []net.Conn
		for _, conn := range open {
			conn.SetReadDeadline(time.Now().Add(time.Microsecond))
			if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
				still = append(still, conn)
			}
		}
		open = still
		return len(open) <= bound
	})
	if open := len(open); open < bound/2 {
		t.Errorf("only %d of %d idle connections are open", open, bound)
	}
	if rss := p.residentMemory(t); rss > idleMemory() {
		t.Errorf("the daemon has taken %d MiB, want at most %d", rss>>20, idleMemory()>>20)
	} else {
		t.Logf("%d MiB resident at most", rss>>20)
	}
}

// idleMemory is what the daemon may take at most, in bytes. The race detector's
// shadow of memory takes several times that.
func idleMemory() int64 {
	if underRace {
		return 8 * (128 << 20)
	}
	return 128 << 20
}

// residentMemory is the most that the process has had, in bytes.
func (p *program) residentMemory(t *testing.T) (bytes int64) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	check(t, err)
	for line := range strings.SplitSeq(string(status), "\n") {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			if _, err := fmt.Sscanf(v, "%d kB", &bytes); err != nil {
				t.Fatal(err)
			}
		}
	}
	return bytes << 10
}

// dialAll opens connections and begins something on each.
func (h *host) dialAll(n int, begin func(int, net.Conn) error) []net.Conn {
	h.Helper()
	conns := make([]net.Conn, n)
	var all errgroup.Group
	all.SetLimit(64)
	for i := range conns {
		all.Go(func() (err error) {
			if conns[i], err = net.Dial("tcp", strings.TrimPrefix(h.url, "http://")); err != nil {
				return err
			}
			return begin(i, conns[i])
		})
	}
	err := all.Wait()
	h.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	})
	check(h, err)
	return conns
}
