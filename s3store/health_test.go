package s3store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hostlocal/manifest"
)

func TestFailingBucketIsLeftAloneAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := overFolder(t)
		defer h.Store.Close()
		h.retry.tokens = 0 // each call is one exchange
		h.wire.fault(func(string, string) error { return noAnswer() })
		for range maxFailures {
			if _, err := h.Tag(t.Context(), "team/app", "v1"); err == nil || errors.Is(err, ErrUnavailable) {
				t.Fatal(err)
			}
		}
		h.wire.count()
		start := time.Now()
		for range 100 {
			_, err := h.Tag(t.Context(), "team/app", "v1")
			h.wantErr(err, ErrUnavailable)
		}
		h.wantCalls(map[string]int{})
		if took := time.Since(start); took > 0 {
			t.Errorf("calls waited %v", took)
		}
		if st := h.Status(); st.Reachable || !st.Resting || st.LastError == "" {
			t.Errorf("%+v", st)
		}

		time.Sleep(rest + time.Millisecond) // it looks again, in vain
		synctest.Wait()
		h.wantCalls(map[string]int{"stat": 1})
		h.wire.fault(nil)
		time.Sleep(rest)
		synctest.Wait()
		_, err := h.Tag(t.Context(), "team/app", "v1")
		h.wantErr(err, fs.ErrNotExist)
		if st := h.Status(); !st.Reachable || st.Resting {
			t.Errorf("%+v", st)
		}
	})
}

func TestAnswersAreNoFailures(t *testing.T) {
	h := overFolder(t)
	for _, status := range []int{403, 404, 412, 400, 501} {
		h.wire.fault(func(string, string) error { return answers(status) })
		for range 2 * maxFailures {
			if _, err := h.StatBlob(t.Context(), someDigest); errors.Is(err, ErrUnavailable) {
				t.Fatalf("%d opens the circuit", status)
			}
		}
	}
}

func TestSilentBucketIsGivenUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := overFolder(t)
		defer h.Store.Close()
		silence := &silentBucket{}
		h.wire.Bucket = silence
		start := time.Now()
		_, err := h.Tag(t.Context(), "team/app", "v1")
		if err == nil || time.Since(start) > readLimit {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		start = time.Now()
		if _, _, _, err := h.OpenBlob(t.Context(), someDigest, 0, -1); err == nil || time.Since(start) > readLimit {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if h.slots.used != 0 {
			t.Error("the slot was kept")
		}
	})
}

// silentBucket answers nothing until its caller gives up.
type silentBucket struct{ Bucket }

func (silentBucket) Stat(ctx context.Context, key string) (Object, error) {
	<-ctx.Done()
	return Object{}, newError(ctx, "stat", key, 0, "", false, ctx.Err())
}

func (silentBucket) Get(ctx context.Context, key string, _, _ int64, _ string) (io.ReadCloser, Object, error) {
	<-ctx.Done()
	return nil, Object{}, newError(ctx, "get", key, 0, "", false, ctx.Err())
}

func TestImpatientCallersDoNotOpenTheCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := overFolder(t)
		defer h.Store.Close()
		h.wire.Bucket = silentBucket{}
		leave := func(after time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			_, err := h.Tag(ctx, "team/app", "v1")
			return err
		}
		for range 3 * maxFailures {
			h.wantErr(leave(minPatience/2), context.DeadlineExceeded)
		}
		if h.Status().Resting {
			t.Fatal("callers who left at once have opened the circuit")
		}
		for range maxFailures {
			leave(2 * minPatience) // others are asked by then
		}
		if !h.Status().Resting {
			t.Error("a bucket that never answers is still asked")
		}
	})
}

// A bucket that answers in 300 ms is left by all who have another source within 100,
// and would be taken for dead again and again. It is told once, and waited for once
// it is known how long it takes.
func TestSlowBucketIsLearntAndToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := overFolder(t)
		defer h.Store.Close()
		var told bytes.Buffer
		h.log = slog.New(slog.NewTextHandler(&told, &slog.HandlerOptions{Level: slog.LevelWarn}))
		h.wire.Bucket = slowBucket{h.wire.Bucket}
		leave := func() {
			for range maxFailures {
				ctx, cancel := context.WithTimeout(t.Context(), h.Patience())
				h.Tag(ctx, "team/app", "v1")
				cancel()
			}
		}
		leave()
		if !h.Status().Resting {
			t.Fatal("a bucket that everybody leaves is still asked")
		}
		time.Sleep(rest + time.Second) // it is looked at, and answers
		if st := h.Status(); st.Resting || h.Patience() < 300*time.Millisecond {
			t.Fatalf("patience %v, %+v", h.Patience(), st)
		}
		h.wire.fault(func(string, string) error { return noAnswer() })
		h.retry.tokens = 0
		for range maxFailures {
			h.Tag(t.Context(), "team/app", "v1")
		}
		if lines := strings.Count(told.String(), "\n"); lines != 1 || !h.Status().Resting {
			t.Errorf("two outages within a minute were told in %d lines:\n%s", lines, &told)
		}
	})
}

// slowBucket takes 300 ms to look at an object.
type slowBucket struct{ Bucket }

func (s slowBucket) Stat(ctx context.Context, key string) (Object, error) {
	select {
	case <-ctx.Done():
		return Object{}, newError(ctx, "stat", key, 0, "", false, ctx.Err())
	case <-time.After(300 * time.Millisecond):
		return s.Bucket.Stat(ctx, key)
	}
}

func (s slowBucket) Get(ctx context.Context, key string, off, n int64, ifMatch string) (io.ReadCloser, Object, error) {
	if _, err := s.Stat(ctx, key); ctx.Err() != nil {
		return nil, Object{}, err
	}
	return s.Bucket.Get(ctx, key, off, n, ifMatch)
}

func TestOneFailureIsRetried(t *testing.T) {
	h := overFolder(t)
	body, d := blob(100)
	h.put(body, d)
	for _, err := range []error{noAnswer(), answers(503), answers(500), answers(429)} {
		failed := false
		h.wire.fault(func(string, string) error {
			if !failed {
				failed = true
				return err
			}
			return nil
		})
		h.wantRead(d, 0, -1, body)
	}
}

func TestRetryAfterIsHeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := overFolder(t)
		defer h.Store.Close()
		after := func(d time.Duration) {
			first := true
			h.wire.fault(func(string, string) error {
				if !first {
					return nil
				}
				first = false
				e := answers(503).(*Error)
				e.RetryAfter = d
				return e
			})
		}
		after(time.Second)
		start := time.Now()
		_, err := h.Tag(t.Context(), "team/app", "v1")
		h.wantErr(err, fs.ErrNotExist)
		if took := time.Since(start); took < time.Second {
			t.Errorf("asked again after %v", took)
		}
		after(time.Minute)
		start = time.Now()
		if _, err = h.Tag(t.Context(), "team/app", "v1"); err == nil || errors.Is(err, fs.ErrNotExist) || time.Since(start) > time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestStormDoesNotMultiply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := overFolder(t)
		defer h.Store.Close()
		n := 0
		h.wire.fault(func(string, string) error {
			if n++; n%2 == 0 { // every other is answered: the circuit stays closed
				return answers(404)
			}
			return answers(503)
		})
		const calls = 1000
		for range calls {
			h.Tag(t.Context(), "team/app", "v1")
		}
		if sent := h.wire.count()["get"]; sent > calls+maxRetryTokens {
			t.Errorf("%d calls became %d exchanges", calls, sent)
		}
	})
}

func TestPatienceFollowsTheBucket(t *testing.T) {
	var w answerTimes
	if got := w.patience(); got != minPatience {
		t.Errorf("knowing nothing: %v", got)
	}
	for i := range 2 * windowSize {
		w.add(time.Duration(i%20) * 20 * time.Millisecond) // 0 to 380 ms
	}
	if got := w.patience(); got < 340*time.Millisecond || got > 380*time.Millisecond {
		t.Errorf("p95 is %v", got)
	}
	for range windowSize {
		w.add(time.Millisecond)
	}
	if got := w.patience(); got != minPatience {
		t.Errorf("does not forget: %v", got)
	}
	for range windowSize {
		w.add(time.Minute)
	}
	if got := w.patience(); got != maxPatience {
		t.Errorf("waits %v", got)
	}
}

var someDigest = manifest.DigestOf([]byte("some"))
