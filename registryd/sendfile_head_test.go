package registryd

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hostlocal/manifest"
)

// tcp is what the kernel says of a connection.
func tcp(t *testing.T, c *conn) (info *unix.TCPInfo) {
	t.Helper()
	err := c.raw.Control(func(fd uintptr) {
		var err error
		if info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err != nil {
			t.Error(err)
		}
	})
	if err != nil || info == nil {
		t.Fatal("the kernel says nothing of the connection:", err)
	}
	return info
}

// readString reads so many bytes.
func readString(t *testing.T, far io.Reader, n int) string {
	t.Helper()
	b := make([]byte, n)
	if n, err := io.ReadFull(far, b); err != nil {
		t.Fatalf("%q and then %v", b[:n], err)
	}
	return string(b)
}

func TestHeaderAndFileLeaveInOnePacket(t *testing.T) {
	c, far := pair(t)
	c.join()
	fmt.Fprint(c, "header ")
	if n, err := c.sendNow(fileOf(t, []byte("body")), 4); n != 4 || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if info := tcp(t, c); info.Data_segs_out != 1 || info.Notsent_bytes != 0 {
		t.Errorf("%d packets, and %d bytes wait", info.Data_segs_out, info.Notsent_bytes)
	}
	if got := readString(t, far, 11); got != "header body" {
		t.Errorf("%q", got)
	}
}

// Whatever becomes of the file, the kernel keeps nothing of the header.
func TestHeaderDoesNotWaitForAFileThatDoesNotCome(t *testing.T) {
	for what, of := range map[string]func() *os.File{
		"an empty file": func() *os.File { return fileOf(t, nil) },
		"a closed file": func() *os.File { f := fileOf(t, []byte("body")); f.Close(); return f },
		"a folder": func() *os.File {
			f, err := os.Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return f
		},
	} {
		c, far := pair(t)
		c.join()
		fmt.Fprint(c, "header")
		if n, _ := c.sendNow(of(), 4); n != 0 {
			t.Errorf("%s: %d bytes", what, n)
		}
		if info := tcp(t, c); info.Data_segs_out != 1 || info.Notsent_bytes != 0 {
			t.Errorf("%s: %d packets, and %d bytes wait", what, info.Data_segs_out, info.Notsent_bytes)
		}
		if got := readString(t, far, 6); got != "header" {
			t.Errorf("%s: %q", what, got)
		}
	}
}

// A client that has not taken its last answer has no room for the next one's header.
func TestHeaderWaitsForRoomWithItsFile(t *testing.T) {
	c, far := pair(t)
	before := 0
	for c.full = false; !c.full; {
		n, err := c.sendNow(fileOf(t, make([]byte, 1<<20)), 1<<20)
		if before += int(n); err != nil {
			t.Fatal(err)
		}
	}
	c.join()
	fmt.Fprint(c, "header ")
	f := fileOf(t, []byte("body"))
	if n, err := c.sendNow(f, 4); n != 0 || err != nil || !c.full {
		t.Fatalf("%d bytes, full: %v, %v", n, c.full, err)
	}
	got := make(chan string, 1)
	go func() {
		io.CopyN(io.Discard, far, int64(before))
		got <- readString(t, far, 11)
	}()
	for c.full {
		if err := c.awaitRoom(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.sendNow(f, 4); err != nil {
			t.Fatal(err)
		}
	}
	if all := <-got; all != "header body" {
		t.Errorf("%q", all)
	}
}

func TestHeaderAndFileLeaveByAUnixSocket(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	near, err := tracked{l, newConnections(10)}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	c := near.(*conn)
	for _, body := range []string{"body", ""} {
		c.join()
		fmt.Fprint(c, "header ")
		if n, err := c.sendNow(fileOf(t, []byte(body)), 4); int(n) != len(body) || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		if got := readString(t, far, len("header "+body)); got != "header "+body {
			t.Errorf("%q", got)
		}
	}
}

// Whole files and ranges of them, of all sizes that something in net/http turns on,
// several to a connection.
func TestFilesAroundTheBuffersAreWholeAndInOrder(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	c := h.dial()
	c.SetReadDeadline(time.Now().Add(time.Minute))
	for _, size := range []int{0, 1, 2, 511, 512, 513, joinLimit, writeStep, writeStep + 1} {
		body := pattern(size)
		d, _ := h.file(body)
		for _, from := range []int{0, 1} {
			part := ""
			if from > 0 {
				part = fmt.Sprintf("Range: bytes=%d-\r\n", from)
			}
			if from > 0 && from >= size {
				continue // there is no such range
			}
			for _, method := range []string{"GET", "HEAD"} {
				c.send(method + " " + blobPath(d) + " HTTP/1.1\r\nHost: h\r\n" + part + "\r\n")
				res, err := http.ReadResponse(c.r, &http.Request{Method: method})
				if err != nil {
					t.Fatalf("%d bytes from %d: %v", size, from, err)
				}
				got, err := io.ReadAll(res.Body)
				if err != nil || method == "GET" && !bytes.Equal(got, body[from:]) || method == "HEAD" && len(got) > 0 {
					t.Fatalf("%s of %d bytes from %d: %d bytes, %v", method, size, from, len(got), err)
				}
			}
		}
	}
	c.wantOpen()
}

// A file that is shorter than it was said to be breaks its connection, after all that
// there is of it: at once.
func TestFileThatHasBecomeShorterEndsItsConnection(t *testing.T) {
	for _, left := range []int{0, 1, 600} {
		h := newTester(t, HandlerOptions{})
		d := manifest.DigestOf(pattern(1000))
		h.setBlob(d, func(int64) (hold, error) { return &fileHold{fileOf(t, pattern(left)), 1000}, nil })
		c := h.dial()
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		c.send("GET " + blobPath(d) + " HTTP/1.1\r\nHost: h\r\n\r\n")
		res, err := http.ReadResponse(c.r, nil)
		if err != nil || res.ContentLength != 1000 {
			t.Fatalf("%d bytes left: %v", left, err)
		}
		if got, err := io.ReadAll(res.Body); len(got) != left || err != io.ErrUnexpectedEOF {
			t.Errorf("%d bytes left: %d came, %v", left, len(got), err)
		}
	}
}
