package registryd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"hostlocal/manifest"
)

// pair is a server's end and a client's end of one loopback connection.
func pair(t *testing.T) (*conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := tracked{l, newConnections(10)}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near.(*conn), far
}

// readSoon begins a read of c, and returns what ends it.
func readSoon(c *conn) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 8))
		ended <- err
	}()
	return ended
}

func TestDeadlineThatHasPassedEndsARead(t *testing.T) {
	c, far := pair(t)
	c.SetReadDeadline(time.Now().Add(time.Hour))
	ended := readSoon(c)
	c.expire(time.Now())
	c.expire(time.Now().Add(2 * time.Hour))
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the read ended with %v", err)
	}
	// A new deadline makes it readable again, as on any connection.
	c.SetReadDeadline(time.Now().Add(time.Hour))
	io.WriteString(far, "x")
	if err := <-readSoon(c); err != nil {
		t.Fatal(err)
	}
}

// This is how net/http ends the read that looks out for a client's leaving.
func TestDeadlineOfLongAgoEndsAReadAtOnce(t *testing.T) {
	c, far := pair(t)
	ended := readSoon(c)
	c.SetReadDeadline(longAgo)
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the read ended with %v", err)
	}
	c.SetReadDeadline(time.Time{})
	io.WriteString(far, "x")
	if err := <-readSoon(c); err != nil {
		t.Fatal(err)
	}
}

func TestDeadlineThatHasPassedEndsAWrite(t *testing.T) {
	c, _ := pair(t)
	c.SetWriteDeadline(time.Now().Add(time.Hour))
	ended := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, 64<<20)) // more than the socket takes
		ended <- err
	}()
	c.expire(time.Now().Add(2 * time.Hour))
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the write ended with %v", err)
	}
}

func TestClientThatSaysNoMoreIsClosed(t *testing.T) {
	s := NewServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	s.http.ReadHeaderTimeout, s.http.IdleTimeout = time.Second, time.Second
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	defer s.Shutdown(t.Context())
	for what, said := range map[string]string{
		"half a request":         "GET / HTTP/1.1\r\nHos",
		"nothing any more":       "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"nothing from the start": "",
	} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, said)
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("%s: %v, want the end", what, err)
		}
	}
}

// Whole bodies around the size of net/http's buffer, several to a connection: what
// is held back must leave, exactly once, and whatever the header's length is.
func TestBodiesAroundTheBufferAreWholeAndInOrder(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	var sizes []int
	for n := joinFrom - 3; n < joinLimit+3; n++ {
		sizes = append(sizes, n)
	}
	sizes = append(sizes, 2*joinLimit, 64<<10, 3<<20)
	c := h.dial()
	for _, n := range sizes {
		body := pattern(n)
		d := manifest.DigestOf(body)
		h.setBlob(d, func(int64) (hold, error) { return memoryHold(body), nil })
		c.send("GET " + blobPath(d) + " HTTP/1.1\r\nHost: h\r\n\r\n")
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		got, err := io.ReadAll(res.Body)
		if err != nil || manifest.DigestOf(got) != d {
			t.Fatalf("%d bytes came as %d, %v", n, len(got), err)
		}
	}
	c.wantOpen()
}

// What is held back comes with what follows it.
func TestHeaderAndBodyLeaveTogether(t *testing.T) {
	c, far := pair(t)
	c.join()
	fmt.Fprint(c, "header ")
	far.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := far.Read(make([]byte, 1)); err == nil {
		t.Fatalf("%d bytes of the header left alone", n)
	}
	far.SetReadDeadline(time.Time{})
	fmt.Fprint(c, "body")
	c.join()
	fmt.Fprint(c, "!\n")
	if err := c.endJoin(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(far).ReadString('\n'); line != "header body!\n" {
		t.Fatalf("%q, %v", line, err)
	}
}

// Half an answer must not be followed by another one.
func TestHeaderThatCannotLeaveClosesTheConnection(t *testing.T) {
	c, far := pair(t)
	c.SetWriteDeadline(longAgo)
	c.join()
	io.WriteString(c, strings.Repeat("h", 100))
	if err := c.endJoin(); err == nil {
		t.Fatal("written after its deadline")
	}
	if n, err := far.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
}
