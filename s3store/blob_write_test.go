package s3store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hostlocal/manifest"
)

// filling is a blob that lands while it is read: the bytes up to landed are
// there, the others come, or fail.
type filling struct {
	body []byte

	mu     sync.Mutex // guards the rest
	moved  sync.Cond
	landed int64
	err    error
}

func newFilling(body []byte) *filling {
	f := &filling{body: body}
	f.moved.L = &f.mu
	return f
}

func (f *filling) land(to int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.landed, f.err = to, err
	f.moved.Broadcast()
}

func (f *filling) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for off+int64(len(p)) > f.landed && f.err == nil && f.landed < int64(len(f.body)) {
		f.moved.Wait()
	}
	if f.err != nil {
		return 0, f.err
	}
	return bytes.NewReader(f.body).ReadAt(p, off)
}

func TestPartsAreSentAsTheyLandAndCompletedAfterTheLastByte(t *testing.T) {
	h := overFolder(t)
	body, d := blob(3*minPart + 1)
	f := newFilling(body)
	sent, completes := make(chan struct{}, 10), atomic.Int32{}
	h.wire.fault(func(op, _ string) error {
		switch op {
		case "part":
			sent <- struct{}{}
		case "complete":
			completes.Add(1)
		}
		return nil
	})
	done := make(chan error, 1)
	go func() { done <- h.PutBlob(t.Context(), d, int64(len(body)), f) }()
	for i := range int64(3) {
		f.land((i+1)*minPart, nil)
		<-sent
	}
	if completes.Load() != 0 {
		t.Error("completed before the last byte")
	}
	f.land(int64(len(body)), nil)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	h.wantRead(d, 0, -1, body)
	h.wantNoUploads()
}

func TestFailedSourceLeavesNothing(t *testing.T) {
	for _, size := range []int{1000, 2*minPart + 5} {
		h := overFolder(t)
		body, d := blob(size)
		f := newFilling(body)
		f.landed = int64(size - 1) // the last byte is held back
		uploaded := make(chan struct{}, 10)
		h.wire.fault(func(op, _ string) error {
			if op == "part" {
				uploaded <- struct{}{}
			}
			return nil
		})
		done := make(chan error, 1)
		go func() {
			done <- h.ResumeBlob(t.Context(), d, int64(size), f, nil, func(string) {})
		}()
		if size > maxSinglePut {
			<-uploaded
			<-uploaded
		}
		f.land(int64(size-1), manifest.ErrMismatch)
		h.wantErr(<-done, manifest.ErrMismatch)
		_, err := h.StatBlob(t.Context(), d)
		h.wantErr(err, fs.ErrNotExist)
		h.wantNoUploads()
	}
}

func TestShortSourceIsAnError(t *testing.T) {
	h := overFolder(t)
	body, d := blob(1000)
	h.wantErr(h.PutBlob(t.Context(), d, 1001, bytes.NewReader(body)), io.ErrUnexpectedEOF)
	_, err := h.StatBlob(t.Context(), d)
	h.wantErr(err, fs.ErrNotExist)
}

func TestWrongBytesAreRefusedByTheStoreItself(t *testing.T) {
	h := overFolder(t)
	body, d := blob(1000)
	if err := h.PutBlob(t.Context(), d, 1000, bytes.NewReader(append([]byte("x"), body[1:]...))); err == nil {
		t.Error("stored")
	}
	_, err := h.StatBlob(t.Context(), d)
	h.wantErr(err, fs.ErrNotExist)
}

func TestRacingWritersAllSucceed(t *testing.T) {
	for _, size := range []int{1000, minPart} {
		h := overFolder(t)
		body, d := blob(size)
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if err := h.PutBlob(t.Context(), d, int64(size), bytes.NewReader(body)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		h.wantRead(d, 0, -1, body)
		h.wantNoUploads()
	}
}

func TestWrongObjectIsReplaced(t *testing.T) {
	for _, size := range []int{1000, minPart} {
		h := overFolder(t)
		body, d := blob(size)
		// Truncated: seen by its length.
		h.plant(blobKey(d), body[:size/2])
		h.put(body, d)
		h.wantRead(d, 0, -1, body)
		// Wrong in its bytes: known to who read it.
		wrong := append([]byte{^body[0]}, body[1:]...)
		h.plant(blobKey(d), wrong)
		h.wantRead(d, 0, -1, wrong)
		h.put(body, d)
		h.wantRead(d, 0, -1, wrong) // nobody has said so
		h.Distrust(d)
		h.put(body, d)
		h.wantRead(d, 0, -1, body)
		h.wire.count()
		h.put(body, d)
		h.wantCalls(map[string]int{"stat": 1}) // trusted again
	}
}

func TestReplacementDoesNotTouchWhatAnotherMended(t *testing.T) {
	h := overFolder(t)
	body, d := blob(1000)
	h.plant(blobKey(d), append([]byte{^body[0]}, body[1:]...))
	if _, err := h.read(d, 0, -1); err != nil {
		t.Fatal(err)
	}
	h.Distrust(d)
	h.plant(blobKey(d), body)
	h.wire.count()
	h.put(body, d)
	h.wantCalls(map[string]int{"stat": 1})
}

func TestLostAnswersAreFoundOut(t *testing.T) {
	h := overFolder(t)
	small, sd := blob(1000)
	large, ld := blob(minPart)
	lose := &losing{Bucket: h.wire.Bucket}
	h.wire.Bucket = lose
	lose.next.Store(true)
	h.put(small, sd)
	lose.next.Store(true)
	h.put(large, ld)
	h.wantRead(sd, 0, -1, small)
	h.wantRead(ld, 0, -1, large)
}

// losing does what it is told once and loses the answer.
type losing struct {
	Bucket
	next atomic.Bool
}

func (l *losing) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, opt PutOptions) (string, error) {
	tag, err := l.Bucket.Put(ctx, key, body, size, opt)
	if l.next.Swap(false) {
		return "", noAnswer()
	}
	return tag, err
}

func (l *losing) CompleteMultipart(ctx context.Context, key, id string, parts []Part, opt CompleteOptions) (string, error) {
	tag, err := l.Bucket.CompleteMultipart(ctx, key, id, parts, opt)
	if l.next.Swap(false) {
		return "", noAnswer()
	}
	return tag, err
}

func TestBucketThatMayOnlyBeReadIsAskedOnce(t *testing.T) {
	h := overFolder(t)
	body, d := blob(1000)
	h.put(body, d)
	other, od := blob(2000)
	h.wire.fault(func(op, _ string) error {
		if op == "put" || op == "create" {
			return answers(403)
		}
		return nil
	})
	err := h.PutBlob(t.Context(), od, 2000, bytes.NewReader(other))
	h.wantErr(err, ErrReadOnly)
	h.wantErr(err, fs.ErrPermission)
	h.wire.count()
	h.wantErr(h.PutBlob(t.Context(), od, 2000, bytes.NewReader(other)), ErrReadOnly)
	h.wantErr(h.PutTag(t.Context(), "team/app", "v1", d), ErrReadOnly)
	h.wantCalls(map[string]int{})
	h.wantRead(d, 0, -1, body)
	if st := h.Status(); st.Writable != No || !st.Reachable || st.Refusal == "" {
		t.Errorf("%+v", st)
	}
	h.wire.fault(nil) // the role was mended
	if err := h.probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.put(other, od)
}

func TestStoreWithoutConditionsIsWrittenAllTheSame(t *testing.T) {
	h := overFolder(t)
	h.wire.Bucket = unconditional{h.wire.Bucket}
	for _, size := range []int{1000, minPart} {
		body, d := blob(size)
		h.put(body, d)
		h.wantRead(d, 0, -1, body)
	}
}

// unconditional says 501 to conditions.
type unconditional struct{ Bucket }

func (u unconditional) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, opt PutOptions) (string, error) {
	if opt.IfNoneMatch {
		return "", answers(501)
	}
	return u.Bucket.Put(ctx, key, body, size, opt)
}

func (u unconditional) CompleteMultipart(ctx context.Context, key, id string, parts []Part, opt CompleteOptions) (string, error) {
	if opt.IfNoneMatch {
		return "", answers(501)
	}
	return u.Bucket.CompleteMultipart(ctx, key, id, parts, opt)
}

func TestPartsStayWithinS3sBounds(t *testing.T) {
	for _, size := range []int64{maxSinglePut + 1, 1 << 30, 160_000 << 20, 5 << 40} {
		p := &partWrite{blobWrite: &blobWrite{size: size}, up: upload{partSize: partSize(size)}}
		if n := p.parts(); n < 1 || n > maxParts || partSize(size)%(1<<20) != 0 || partSize(size) > 5<<30 {
			t.Errorf("%d bytes: %d parts of %d", size, n, partSize(size))
		}
	}
	if !errors.Is(fmt.Errorf("%w", sourceError{io.EOF}), io.EOF) {
		t.Error("the source's error is lost")
	}
}

// A gated source has its first bytes, and the others when its gate is open.
type gated struct {
	*bytes.Reader
	first int64
	gate  chan struct{}
}

func (g gated) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > g.first {
		<-g.gate
	}
	return g.Reader.ReadAt(p, off)
}

func TestAnUploadIsBegunOnlyWhenBytesCome(t *testing.T) {
	for first, want := range map[int64]int{1000: 0, earnest: 1} {
		h := overFolder(t)
		begun := make(chan struct{}, 1)
		h.wire.fault(func(op, _ string) error {
			if op == "create" {
				begun <- struct{}{}
			}
			return nil
		})
		body, d := blob(maxSinglePut + 1)
		src := gated{bytes.NewReader(body), first, make(chan struct{})}
		done := make(chan error, 1)
		go func() { done <- h.PutBlob(t.Context(), d, int64(len(body)), src) }()
		if want > 0 {
			<-begun
		} else {
			time.Sleep(100 * time.Millisecond)
		}
		if n := h.wire.count()["create"]; n != want {
			t.Errorf("%d uploads were begun with %d bytes there", n, first)
		}
		close(src.gate)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		h.wantRead(d, 0, -1, body)
	}
}
