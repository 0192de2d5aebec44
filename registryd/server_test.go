package registryd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A client is a connection of a test's own.
type client struct {
	*testing.T
	net.Conn
	r *bufio.Reader
}

func (h *tester) dial() *client {
	h.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(h.base, "http://"))
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { c.Close() })
	return &client{h.TB.(*testing.T), c, bufio.NewReader(c)}
}

func (c *client) send(s string) {
	c.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.Error(err)
	}
}

// status reads one answer.
func (c *client) status() int {
	c.Helper()
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.Fatal(err)
	}
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res.StatusCode
}

// ping asks for /v2/ and keeps the connection.
func (c *client) ping() {
	c.Helper()
	c.send("GET /v2/ HTTP/1.1\r\nHost: h\r\n\r\n")
	if s := c.status(); s != 200 {
		c.Errorf("status %d", s)
	}
}

// wantClosed demands that the server closes the connection without a word.
func (c *client) wantClosed() {
	c.Helper()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if b, err := c.r.ReadByte(); err == nil {
		c.Errorf("got %q instead of the end", b)
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
		c.Error("still open")
	}
}

// wantOpen demands that the connection serves.
func (c *client) wantOpen() { c.Helper(); c.ping() }

// settled waits until the server has n connections of which waiting ones wait.
func (h *tester) settled(n, waiting int) {
	h.Helper()
	cs := h.server.conns
	var open, queue int
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		cs.mu.Lock()
		open, queue = len(cs.open), 0
		for e := cs.queue.next; e != &cs.queue; e = e.next {
			queue++
		}
		cs.mu.Unlock()
		if open == n && queue == waiting {
			return
		}
	}
	h.Fatalf("%d connections, %d waiting; want %d and %d", open, queue, n, waiting)
}

// limit sets how many connections the server may have.
func (h *tester) limit(n int) {
	cs := h.server.conns
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.limit = n
}

func TestAboveTheLimitTheLongestIdleIsClosed(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	h.limit(3)
	a, b, c := h.dial(), h.dial(), h.dial()
	for _, each := range []*client{a, b, c} {
		each.ping()
		h.settled(3, 3)
	}
	a.ping() // now b is the longest idle
	h.settled(3, 3)
	d := h.dial()
	d.ping()
	b.wantClosed()
	a.wantOpen()
	c.wantOpen()
	d.wantOpen()
}

// A storm of more clients than there are places is served by turns.
func TestStormAboveTheLimitIsServed(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	h.limit(4)
	h.manifest("a/b", "t", "{}")
	var storm sync.WaitGroup
	for range 200 {
		storm.Go(func() {
			c := h.dial()
			c.send("GET /v2/a/b/manifests/t HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
			if s := c.status(); s != 200 {
				t.Errorf("status %d", s)
			}
		})
	}
	storm.Wait()
}

// Whoever says nothing makes way, and not for long.
func TestSilentClientsAboveTheLimitHoldNobody(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	h.limit(4)
	h.manifest("a/b", "t", "{}")
	var silent []*client
	for range 4 {
		silent = append(silent, h.dial())
	}
	h.settled(4, 4)
	begun := time.Now()
	for range 4 {
		h.dial().ping()
	}
	if took := time.Since(begun); took > 2*doorPatience {
		t.Errorf("four clients took %v", took)
	}
	for _, c := range silent {
		c.wantClosed()
	}
}

func TestWhoIsBeingAnsweredIsNeverClosed(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	h.limit(2)
	gate := make(chan struct{})
	body := pattern(1000)
	digest := h.fill(&fillHold{body: body, size: 1000, gate: gate})
	var busy []*client
	for range 2 {
		c := h.dial()
		c.send("GET " + blobPath(digest) + " HTTP/1.1\r\nHost: h\r\n\r\n")
		busy = append(busy, c)
	}
	h.settled(2, 0)
	h.dial().wantClosed() // nobody waits but the newest
	close(gate)
	for _, c := range busy {
		if s := c.status(); s != 200 {
			t.Errorf("status %d", s)
		}
	}
	h.settled(2, 2)
	h.dial().ping()
}

func TestHalfOpenRequestsAndIdleConnectionsDoNotHurtOthers(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	h.limit(300)
	h.manifest("a/b", "t", "{}")
	for i := range 1000 {
		c := h.dial()
		if i%2 == 0 {
			c.send("GET /v2/ HTTP/1.1\r\nHos")
		}
		if i%100 == 0 {
			h.want(h.get("/v2/a/b/manifests/t"), 200)
		}
	}
	h.want(h.get("/v2/a/b/manifests/t"), 200)
	h.server.conns.mu.Lock()
	defer h.server.conns.mu.Unlock()
	if n := len(h.server.conns.open); n > 300 {
		t.Errorf("%d connections", n)
	}
}

func TestTLSHelloGetsAnAnswerAtOnce(t *testing.T) {
	var lines strings.Builder
	h := newTester(t, HandlerOptions{})
	h.server.http.ErrorLog = serverLog(slog.New(slog.NewTextHandler(&lines, nil)))
	c := h.dial()
	// The beginning of a ClientHello; the extension "supported groups" is number 10, a line feed.
	c.send("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03random\x00\x0a\x00\x04\x00\x02\x00\x1d")
	if s := c.status(); s != 400 {
		t.Errorf("status %d", s)
	}
	if lines.Len() > 0 {
		t.Errorf("logged: %s", &lines)
	}
}

func TestBodyThatNeverComesHoldsNobody(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	for _, request := range []string{
		"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n",
		"PUT /v2/a/manifests/t HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET /v2/ HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n",
		"PATCH /v2/a/blobs/uploads/x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n",
	} {
		c := h.dial()
		c.send(request)
		if s := c.status(); s != 403 && s != 200 {
			t.Errorf("%.40q: %d", request, s)
		}
		defer c.wantClosed()
	}
}

func TestShutdownEndsIdleAtOnceAndLetsAnswersEnd(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	gate := make(chan struct{})
	digest := h.fill(&fillHold{body: pattern(1000), size: 1000, gate: gate})
	idle, silent := h.dial(), h.dial()
	idle.ping()
	h.settled(2, 2)
	busy := h.dial()
	busy.send("GET " + blobPath(digest) + " HTTP/1.1\r\nHost: h\r\n\r\n")
	h.settled(3, 2)
	done := make(chan error)
	go func() { done <- h.server.Shutdown(context.Background()) }()
	idle.wantClosed()
	silent.wantClosed()
	// From the first moment there are no new connections: refused, or closed at once.
	if c, err := net.Dial("tcp", strings.TrimPrefix(h.base, "http://")); err == nil {
		(&client{t, c, bufio.NewReader(c)}).wantClosed()
		c.Close()
	}
	close(gate)
	if s := busy.status(); s != 200 {
		t.Errorf("status %d", s)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Who runs a host on which clients fail for that reason should not have to guess.
func TestLogSaysThatClientsAreTurnedAway(t *testing.T) {
	cs := newConnections(1)
	turned := 0
	cs.turnedAway = func() { turned++ }
	idle, _ := pair(t)
	cs.changed(idle, http.StateNew)
	cs.changed(idle, http.StateActive)
	cs.changed(idle, http.StateIdle)
	busy, _ := pair(t)
	cs.changed(busy, http.StateNew) // in place of the idle one
	cs.changed(busy, http.StateActive)
	if turned != 0 {
		t.Error("an idle connection's client was turned away")
	}
	unheard, _ := pair(t)
	if cs.changed(unheard, http.StateNew); turned != 1 {
		t.Errorf("turned away %d times, want once", turned)
	}
	cs.sweeping.Stop()

	var lines strings.Builder
	s := NewServer(http.NotFoundHandler(), slog.New(slog.NewTextHandler(&lines, nil)))
	s.conns.turnedAway()
	if !strings.Contains(lines.String(), "turned away") || !strings.Contains(lines.String(), "ulimit -n") {
		t.Errorf("logged: %s", &lines)
	}
}

// A listener may accept one more before it is closed.
func TestConnectionThatComesAfterTheLastOneEndsToo(t *testing.T) {
	c, _ := pair(t)
	cs := newConnections(10)
	<-cs.drain()
	if victim, unheard := cs.change(c, http.StateNew); victim != c || unheard {
		t.Errorf("to be closed: %v; turned away: %v", victim, unheard)
	}
	cs.change(c, http.StateClosed)
	<-cs.drain()
}

func TestShutdownBreaksOffWhatDoesNotEnd(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	digest := h.fill(&fillHold{body: pattern(1000), size: 1000, gate: make(chan struct{})})
	busy := h.dial()
	busy.send("GET " + blobPath(digest) + " HTTP/1.1\r\nHost: h\r\n\r\n")
	h.settled(1, 0)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := h.server.Shutdown(ctx); err != context.DeadlineExceeded {
		t.Errorf("%v", err)
	}
	if n := h.held.Load(); n != 0 {
		t.Errorf("%d blobs are still held", n)
	}
}

func TestSeveralListeners(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	path := filepath.Join(t.TempDir(), "registry.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.server.Serve(l) }()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	defer tr.CloseIdleConnections()
	d, _ := h.file(pattern(100_000))
	res, err := (&http.Client{Transport: tr}).Get("http://unix" + blobPath(d))
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, res.Body)
	res.Body.Close()
	if n != 100_000 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	h.want(h.get("/v2/"), 200)
	if err := h.server.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestLeavingClientEndsItsRequest(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	digest := h.fill(&fillHold{body: pattern(1000), size: 1000, gate: make(chan struct{})})
	c := h.dial()
	c.send("GET " + blobPath(digest) + " HTTP/1.1\r\nHost: h\r\n\r\n")
	h.settled(1, 0)
	c.Close()
	h.settled(0, 0)
}

func TestServerLogIsBounded(t *testing.T) {
	var out strings.Builder
	l := serverLog(slog.New(slog.NewTextHandler(&out, nil)))
	for i := range 1000 {
		l.Print("http: Accept error: too many open files; retrying ", i)
	}
	l.Print("http: panic serving 1.2.3.4: oh no\ngoroutine 1 [running]")
	l.Print("http: panic serving 1.2.3.4: oh no\ngoroutine 1 [running]")
	if n := strings.Count(out.String(), "\n"); n != 3 {
		t.Errorf("%d lines:\n%s", n, &out)
	}
}

func TestConnectionLimitLeavesDescriptorsToOthers(t *testing.T) {
	if n := connectionLimit(); n < 16 || n > maxConnections {
		t.Error(fmt.Errorf("limit %d", n))
	}
}
