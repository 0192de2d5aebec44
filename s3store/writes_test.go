package s3store

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hostlocal/manifest"
)

// Small blobs are stored while as many parts of large ones are on their way as there may
// be, and many more wait: first those of blobs, then those of stages. 0.1 s.
func TestSmallBlobsDoNotWaitForThePartsOfLargeOnes(t *testing.T) {
	for name, send := range map[string]func(context.Context, *tester, int) error{
		"blobs": func(ctx context.Context, h *tester, i int) error {
			return h.PutBlob(ctx, digestNo(i), 2*minPart, noBytes{})
		},
		"stages": func(ctx context.Context, h *tester, i int) error {
			return h.StageBlob(ctx, "team/app", digestNo(i).Hex()[:32], noBytes{}, func(context.Context, int64) (int64, manifest.Digest, error) {
				return 2 * minPart, digestNo(i), nil
			}, func(string) {})
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := overFolder(t)
			ctx, cancel := context.WithCancel(t.Context())
			var large sync.WaitGroup
			defer large.Wait()
			defer cancel()
			var parts atomic.Int64
			h.wire.fault(func(op, _ string) error {
				if op == "part" {
					parts.Add(1)
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			})
			for i := range maxWrites {
				large.Go(func() { _ = send(ctx, h, i) })
			}
			for parts.Load() < maxWrites-keptForWhole {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(20 * time.Millisecond) // for more than there may be
			within, end := context.WithTimeout(ctx, 10*time.Second)
			defer end()
			for i := range 10 {
				body, d := blob(1000 + i)
				if err := h.PutBlob(within, d, int64(len(body)), bytes.NewReader(body)); err != nil {
					t.Fatal(err)
				}
			}
			if n := parts.Load(); n != maxWrites-keptForWhole {
				t.Errorf("%d parts at once", n)
			}
		})
	}
}

// noBytes is a source of zeros that costs nothing to wait for.
type noBytes struct{}

func (noBytes) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }
func (noBytes) Await(int64, int64) error              { return nil }

// One who leaves takes no turn along, wherever he waits.
func TestWhoLeavesTheQueueOfWritesLeavesNoTurnBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWrites()
		take := func(ctx context.Context, size int64) func() {
			t.Helper()
			done, err := w.take(ctx, size)
			if err != nil {
				t.Fatal(err)
			}
			return done
		}
		leave := func(size int64) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := w.take(ctx, size); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("a turn too many: %v", err)
			}
		}
		var small, large []func()
		for range maxWrites {
			small = append(small, take(t.Context(), maxSinglePut))
		}
		leave(1)
		for range maxWrites { // each waits in the common queue
			leave(minPart)
		}
		for _, done := range small {
			done()
		}
		for range maxWrites - keptForWhole {
			large = append(large, take(t.Context(), minPart))
		}
		leave(minPart)
		for range keptForWhole {
			large = append(large, take(t.Context(), 1))
		}
		leave(1)
		for _, done := range large {
			done()
		}
		for range maxWrites {
			take(t.Context(), 1)
		}
	})
}
