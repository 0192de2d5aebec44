package s3store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
)

// cutBody ends with err after n bytes.
type cutBody struct {
	io.ReadCloser
	n   int
	err error
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.n == 0 {
		return 0, b.err
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.n)])
	b.n -= n
	return n, err
}

func TestCutBodyGoesOn(t *testing.T) {
	for _, err := range []error{io.ErrUnexpectedEOF, io.EOF, errors.New("reset")} {
		t.Run(err.Error(), func(t *testing.T) {
			h := overFolder(t)
			body, d := blob(12 << 20)
			h.put(body, d)
			h.wire.body = func(_ string, r io.ReadCloser) io.ReadCloser { return &cutBody{r, 5 << 20, err} }
			h.wire.count()
			h.wantRead(d, 0, -1, body)
			h.wantCalls(map[string]int{"get": 3})
			if h.retry.tokens < maxRetryTokens-1 {
				t.Errorf("continuing cost the retry budget: %v tokens left", h.retry.tokens)
			}
		})
	}
}

func TestBodyThatGetsNowhereEnds(t *testing.T) {
	h := overFolder(t)
	body, d := blob(1 << 20)
	h.put(body, d)
	h.wire.body = func(_ string, r io.ReadCloser) io.ReadCloser { return &cutBody{r, 10, errors.New("reset")} }
	h.wire.count()
	got, err := h.read(d, 0, -1)
	if err == nil || !bytes.Equal(got, body[:len(got)]) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	h.wantCalls(map[string]int{"get": maxAttempts})
}

func TestStalledBodyIsNotContinued(t *testing.T) {
	h := overFolder(t)
	body, d := blob(4 << 20)
	h.put(body, d)
	h.wire.body = func(_ string, r io.ReadCloser) io.ReadCloser {
		return &cutBody{r, 2 << 20, fmt.Errorf("stalled: %w", os.ErrDeadlineExceeded)}
	}
	h.wire.count()
	_, err := h.read(d, 0, -1)
	h.wantErr(err, os.ErrDeadlineExceeded)
	h.wantCalls(map[string]int{"get": 1})
}

func TestRemovedWhileReadIsAMiss(t *testing.T) {
	h := overFolder(t)
	body, d := blob(4 << 20)
	h.put(body, d)
	h.wire.body = func(key string, r io.ReadCloser) io.ReadCloser {
		h.wire.Delete(t.Context(), key)
		return &cutBody{r, 2 << 20, io.ErrUnexpectedEOF}
	}
	got, err := h.read(d, 0, -1)
	h.wantErr(err, fs.ErrNotExist)
	if len(got) != 2<<20 {
		t.Errorf("%d bytes", len(got))
	}
}

func TestReplacedWhileReadGoesOnWithTheNewOne(t *testing.T) {
	h := overFolder(t)
	body, d := blob(4 << 20)
	h.plant(blobKey(d), append(bytes.Clone(body[:3<<20]), make([]byte, 1<<20)...)) // its tail is wrong
	once := false
	h.wire.body = func(key string, r io.ReadCloser) io.ReadCloser {
		if once {
			return r
		}
		once = true
		h.plant(key, body)
		return &cutBody{r, 2 << 20, io.ErrUnexpectedEOF}
	}
	h.wantRead(d, 0, -1, body)

	// One of another length cannot go on: the reader was told a length.
	once = false
	body, d = blob(2 << 20)
	h.plant(blobKey(d), body)
	h.wire.body = func(key string, r io.ReadCloser) io.ReadCloser {
		h.plant(key, body[1:])
		return &cutBody{r, 1 << 20, io.ErrUnexpectedEOF}
	}
	if got, err := h.read(d, 0, -1); err == nil || len(got) != 1<<20 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestBodyEndsWithItsCaller(t *testing.T) {
	h := overFolder(t)
	body, d := blob(1 << 20)
	h.put(body, d)
	ctx, cancel := context.WithCancel(t.Context())
	r, _, _, err := h.OpenBlob(ctx, d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cancel()
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestRangesGiveTheirSlotsBack(t *testing.T) {
	h := overFolder(t)
	body, d := blob(2 << 20)
	h.put(body, d)
	_, missing := blob(7)
	for range 2 * maxRanges {
		r, _, _, err := h.OpenBlob(t.Context(), d, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		r.Close() // twice gives back once
		if _, _, _, err := h.OpenBlob(t.Context(), missing, 0, -1); err == nil {
			t.Fatal("read what is not there")
		}
	}
	if h.slots.used != 0 || len(h.slots.queues) != 0 {
		t.Errorf("%d slots in use, %d queues", h.slots.used, len(h.slots.queues))
	}
}

func TestRefusalHidesAMissWhereTheStoreHidesThem(t *testing.T) {
	h := overFolder(t)
	_, d := blob(5)
	refuse := func(code string) func(op, key string) error {
		return func(op, key string) error {
			if code != "AccessDenied" || op == "get" || op == "stat" || op == "list" {
				return newError(t.Context(), op, key, 403, code, false, nil)
			}
			return nil
		}
	}
	h.wire.fault(refuse("AccessDenied"))
	_, err := h.Tag(t.Context(), "team/app", "v1")
	h.wantErr(err, fs.ErrPermission) // nobody knows yet
	if err := h.probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = h.Tag(t.Context(), "team/app", "v1")
	h.wantErr(err, fs.ErrNotExist)
	_, err = h.read(d, 0, -1)
	h.wantErr(err, fs.ErrNotExist)
	_, err = h.Exists(t.Context(), "team/app")
	h.wantErr(err, fs.ErrPermission)
	if st := h.Status(); st.Listable != No || st.Writable != Yes || !st.Reachable {
		t.Errorf("%+v", st)
	}
	h.wire.fault(refuse("InvalidAccessKeyId"))
	_, err = h.Tag(t.Context(), "team/app", "v1")
	h.wantErr(err, fs.ErrPermission)
	if errors.Is(err, fs.ErrNotExist) {
		t.Error("refused credentials pass for a miss")
	}
	if err := h.probe(t.Context()); err == nil || !strings.Contains(h.Status().Refusal, "InvalidAccessKeyId") {
		t.Errorf("%v, %+v", err, h.Status())
	}
	err = h.PutTag(t.Context(), "team/app", "v2", d)
	if err == nil || errors.Is(err, fs.ErrPermission) || h.Status().Writable != Yes {
		t.Errorf("refused credentials pass for a bucket that may only be read: %v, %+v", err, h.Status())
	}
	h.wire.fault(nil)
	if err := h.PutTag(t.Context(), "team/app", "v2", d); err != nil || h.Status().Refusal != "" {
		t.Errorf("the credentials are accepted: %v, %+v", err, h.Status())
	}
}
