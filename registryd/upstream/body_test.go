package upstream

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// pipeBody is a body of bytes that the test writes itself, in a bubble where time
// passes only when everybody waits.
func pipeBody(t *testing.T) (*body, *io.PipeWriter) {
	t.Helper()
	c, err := New(Config{URL: "http://registry.example"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { r.CloseWithError(context.Cause(ctx)) })
	return c.watch(ctx, cancel, &ask{what: "blob"}, r, func(bool) {}), w
}

func TestSlowReaderIsNotAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, w := pipeBody(t)
		defer b.Close()
		go func() {
			for range 5 {
				w.Write([]byte("x"))
			}
			w.Close()
		}()
		for range 5 {
			time.Sleep(time.Hour) // the reader's own pause
			if n, err := b.Read(make([]byte, 1)); n != 1 || err != nil {
				t.Fatalf("%d bytes, %v", n, err)
			}
		}
		if _, err := b.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
	})
}

func TestTrickleIsNotAStallButSilenceIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, w := pipeBody(t)
		defer b.Close()
		go func() {
			for range 5 {
				time.Sleep(b.c.cfg.StallTimeout - time.Millisecond)
				w.Write([]byte("x"))
			}
		}()
		for range 5 {
			if n, err := b.Read(make([]byte, 1)); n != 1 || err != nil {
				t.Fatalf("%d bytes, %v", n, err)
			}
		}
		start := time.Now()
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, errStalled) || !Outage(err) {
			t.Errorf("silence: %v", err)
		}
		if took := time.Since(start); took != b.c.cfg.StallTimeout {
			t.Errorf("silence was given up after %v", took)
		}
	})
}
