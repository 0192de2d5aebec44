package blobcache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hostlocal/manifest"
)

// await waits for n bytes from off on, not for long.
func await(t *testing.T, b *Blob, off, n int64) error {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	return b.AwaitContext(ctx, off, n)
}

// What is awaited of a fill has landed, and lies in its file; the last byte when the
// digest matched.
func TestWhatIsAwaitedOfAFillHasLanded(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(8*mib, 101)
	gate, size := make(chan struct{}), int64(8*mib)
	o.pace = func(off int64) {
		if off >= 4*mib {
			<-gate
		}
	}
	b, err := h.Get(t.Context(), o.digest, h.want(o, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.AwaitContext(t.Context(), 0, 4*mib); err != nil {
		t.Fatal(err)
	}
	if err := await(t, b, 0, 4*mib+1); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("what is still to come: %v", err)
	}
	wantInFile(t, b, o.bytes[:4*mib])
	close(gate)
	if err := b.AwaitContext(t.Context(), 5, size-5); err != nil {
		t.Fatal(err)
	}
	wantInFile(t, b, o.bytes)
	h.wantResult("upstream ok")
	if err := await(t, b, size-1, 2); err != io.EOF {
		t.Errorf("beyond the end: %v", err)
	}
}

// wantInFile reads the blob's descriptor.
func wantInFile(t *testing.T, b *Blob, want []byte) {
	t.Helper()
	raw, err := b.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if err := raw.Control(func(fd uintptr) { _, err = unix.Pread(int(fd), got, 0) }); err != nil {
		t.Fatal(err)
	}
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file has other bytes, %v", err)
	}
}

func TestNobodyAwaitsTheEndOfAWrongBlob(t *testing.T) {
	for name, budget := range map[string]int64{"fill": 1 << 30, "pass": mib} {
		t.Run(name, func(t *testing.T) {
			h, o := newTester(t, Options{Budget: budget}), newOrigin(4*mib, 102)
			o.wrong = 2 * mib
			b, err := h.Get(t.Context(), o.digest, h.want(o, 0))
			if err == nil {
				err = b.AwaitContext(t.Context(), 0, 4*mib)
				b.Close()
			}
			if !errors.Is(err, manifest.ErrMismatch) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestWhatIsHereNeedsNoWait(t *testing.T) {
	for _, c := range []struct {
		name   string
		size   int64
		opt    Options
		inFile bool
	}{
		{"disk", 2 * mib, Options{}, true},
		{"memory", 1000, Options{}, false},
		{"pass", 2 * mib, Options{Budget: mib}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, o := newTester(t, c.opt), newOrigin(c.size, 103)
			for range 2 { // memory has it from the first hit on
				got, err := h.pull(o)
				h.wantRight(o, got, err)
				if c.name != "pass" {
					h.wantPresent(o)
				}
			}
			b, err := h.Open(o.digest)
			if c.name == "pass" {
				b, err = h.Get(t.Context(), o.digest, h.want(o, 0))
			}
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if err := b.AwaitContext(t.Context(), 10, c.size-10); err != nil {
				t.Error(err)
			}
			if err := b.AwaitContext(t.Context(), 10, c.size); err != io.EOF {
				t.Errorf("beyond the end: %v", err)
			}
			if _, err := b.SyscallConn(); (err == nil) != c.inFile {
				t.Errorf("a file: %v", err)
			}
		})
	}
}
