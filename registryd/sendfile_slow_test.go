package registryd

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// fileOf is an open file of these bytes.
func fileOf(t *testing.T, b []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestFileIsSentAsThereIsRoom(t *testing.T) {
	c, far := pair(t)
	body := pattern(32 << 20) // more than the sockets hold
	f := fileOf(t, body)
	n, err := c.sendNow(f, int64(len(body)))
	if err != nil || n == 0 || n == int64(len(body)) || !c.full {
		t.Fatalf("%d bytes at once, full: %v, %v", n, c.full, err)
	}
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(far, int64(len(body))))
		got <- b
	}()
	for n < int64(len(body)) {
		if err := c.awaitRoom(); err != nil {
			t.Fatal(err)
		}
		m, err := c.sendNow(f, int64(len(body))-n)
		if err != nil {
			t.Fatal(err)
		}
		n += m
	}
	if !bytes.Equal(<-got, body) {
		t.Error("other bytes came")
	}
}

// There is room, and the poller has said so before anybody waited.
func TestRoomThatIsThereIsNotWaitedFor(t *testing.T) {
	c, _ := pair(t)
	for range 3 {
		if err := c.awaitRoom(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFileThatEndsTooSoonIsNotWaitedFor(t *testing.T) {
	c, _ := pair(t)
	n, err := c.sendNow(fileOf(t, make([]byte, 1000)), 2000)
	if n != 1000 || err != nil || c.full {
		t.Errorf("%d bytes, full: %v, %v", n, c.full, err)
	}
}

func TestWaitForRoomEndsWithItsDeadlineAndItsClient(t *testing.T) {
	fill := func(c *conn) {
		for c.full = false; !c.full; {
			if _, err := c.sendNow(fileOf(t, make([]byte, 1<<20)), 1<<20); err != nil {
				t.Fatal(err)
			}
		}
	}
	c, _ := pair(t)
	fill(c)
	c.SetWriteDeadline(time.Now())
	time.AfterFunc(10*time.Millisecond, func() { c.expire(time.Now()) })
	if err, ok := c.awaitRoom().(net.Error); !ok || !err.Timeout() {
		t.Errorf("the wait ended with %v", err)
	}
	c, far := pair(t)
	fill(c)
	time.AfterFunc(10*time.Millisecond, func() { far.Close() })
	if err := c.awaitRoom(); err == nil { // it may be told by the wait or by what follows
		if _, err = c.sendNow(fileOf(t, make([]byte, 10)), 10); err == nil {
			t.Error("sent to a client that has left")
		}
	}
}
