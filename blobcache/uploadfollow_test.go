package blobcache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// followed is what a follower had, and how it ended.
type followed struct {
	bytes []byte
	err   error
}

// followFrom reads all of u from off on, in pieces of piece bytes.
func followFrom(ctx context.Context, u *Upload, off int64, piece int) chan followed {
	done := make(chan followed, 1)
	go func() {
		var got followed
		for buf := make([]byte, piece); got.err == nil; {
			var n int
			n, got.err = u.ReadAtContext(ctx, buf, off)
			got.bytes = append(got.bytes, buf[:n]...)
			off += int64(n)
		}
		done <- got
	}()
	return done
}

// bubble runs do with a cache whose goroutines, and those of do, must all have ended
// when it returns: else synctest fails.
func bubble(t *testing.T, do func(t *testing.T, h *tester)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := &tester{TB: t, dir: filepath.Join(dir, "cache"), results: make(chan string, 100)}
		h.opt = Options{Budget: 64 * mib, ScrubRate: -1, Log: slog.New(slog.DiscardHandler)}
		h.start()
		do(t, h)
		h.Close()
	})
}

func TestFollowersReadAnUploadWhileItGrows(t *testing.T) {
	bubble(t, func(t *testing.T, h *tester) {
		o := newOrigin(2*mib+9, 8500)
		u := h.newUpload(1)
		early := followFrom(t.Context(), u, 0, 100_000)
		late := followFrom(t.Context(), u, 2*mib, 5)
		for off := 0; off < len(o.bytes); off += 300_000 {
			synctest.Wait() // all of them wait
			select {
			case got := <-early:
				t.Fatalf("a follower ended after %d bytes: %v", len(got.bytes), got.err)
			default:
			}
			h.send(u, o.bytes[off:min(len(o.bytes), off+300_000)])
		}
		synctest.Wait()
		if len(early)+len(late) > 0 {
			t.Error("a follower ended and nobody said that this was all")
		}
		u.Finish()
		for i, want := range [][]byte{o.bytes, o.bytes[2*mib:]} {
			got := <-[]chan followed{early, late}[i]
			if got.err != io.EOF || !bytes.Equal(got.bytes, want) {
				t.Errorf("follower %d: %d bytes of %d, %v", i, len(got.bytes), len(want), got.err)
			}
		}
		if _, err := u.Write([]byte("more")); !errors.Is(err, errUploadOver) {
			t.Errorf("more after the end: %v", err)
		}
		h.wantDigest(u, o.digest)
		if err := u.Commit(o.digest); err != nil {
			t.Fatal(err)
		}
		if _, err := u.ReadAtContext(t.Context(), make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("a follower of what is committed: %v", err)
		}
	})
}

func TestFollowersHearHowAnUploadEnds(t *testing.T) {
	broken := errors.New("the sender broke off")
	for name, c := range map[string]struct {
		end  func(h *tester, u *Upload)
		want error
	}{
		"fails":           {func(_ *tester, u *Upload) { u.Fail(broken) }, broken},
		"fails, finishes": {func(_ *tester, u *Upload) { u.Fail(broken); u.Finish() }, broken},
		"is aborted":      {func(_ *tester, u *Upload) { u.Abort() }, fs.ErrClosed},
		"is closed":       {func(_ *tester, u *Upload) { u.Close() }, fs.ErrClosed},
		"cache is closed": {func(h *tester, _ *Upload) { h.Close() }, ErrDisk},
		"is wrong":        {func(_ *tester, u *Upload) { u.Commit(newOrigin(1, 8511).digest) }, fs.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *tester) {
				u := h.newUpload(1)
				h.send(u, []byte("some"))
				follower := followFrom(t.Context(), u, 0, 3)
				synctest.Wait()
				c.end(h, u)
				got := <-follower
				if c.want == fs.ErrClosed && got.err == io.EOF {
					got.err = nil
				}
				if !errors.Is(got.err, c.want) || string(got.bytes) != "some" {
					t.Errorf("%q, %v", got.bytes, got.err)
				}
			})
		})
	}
}

func TestFollowersWaitIsTheirsToBound(t *testing.T) {
	bubble(t, func(t *testing.T, h *tester) {
		u := h.newUpload(1)
		ctx, cancel := context.WithCancel(t.Context())
		leaving, staying := followFrom(ctx, u, 0, 10), followFrom(t.Context(), u, 0, 10)
		synctest.Wait()
		cancel()
		if got := <-leaving; !errors.Is(got.err, context.Canceled) {
			t.Error(got.err)
		}
		h.send(u, []byte("some"))
		u.Finish()
		if got := <-staying; got.err != io.EOF || string(got.bytes) != "some" {
			t.Errorf("%q, %v", got.bytes, got.err)
		}
		if u.waiting != 0 {
			t.Errorf("%d wait", u.waiting)
		}
	})
}

// TestManyUploadsWithManyFollowers is for the race detector.
func TestManyUploadsWithManyFollowers(t *testing.T) {
	h := newTester(t, Options{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			o := newOrigin(int64(mib+i), uint64(8520+i%4)) // some are sent twice at once
			u, err := h.NewUpload(uploadOf(i))
			if err != nil {
				t.Error(err)
				return
			}
			var followers []chan followed
			for n := range 4 {
				followers = append(followers, followFrom(t.Context(), u, 0, 70_000*(n+1)))
			}
			if _, err := u.ReadFrom(plain{bytes.NewReader(o.bytes)}); err != nil {
				t.Error(err)
			}
			u.Finish()
			for _, f := range followers {
				if got := <-f; got.err != io.EOF || !bytes.Equal(got.bytes, o.bytes) {
					t.Errorf("%d bytes of %d, %v", len(got.bytes), len(o.bytes), got.err)
				}
			}
			h.Stats()
			h.ExpireUploads(0, time.Now())
			if err := u.Commit(o.digest); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	h.wantUploads(0)
	h.awaitScan()
	h.wantLedgerRight()
}

// TestCacheClosesUnderItsUploads: what is being sent stays for the next start, up to
// where the sender was told.
func TestCacheClosesUnderItsUploads(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(8*mib, 8530)
	var wg sync.WaitGroup
	sent := make([]int64, 4)
	going := make(chan struct{}, len(sent))
	for i := range sent {
		u := h.newUpload(i)
		wg.Go(func() {
			for off := 0; ; off += 10_000 {
				n, err := u.Write(o.bytes[min(len(o.bytes), off):min(len(o.bytes), off+10_000)])
				sent[i] += int64(n)
				if off == 50_000 {
					going <- struct{}{}
				}
				if err != nil || n == 0 {
					if !errors.Is(err, ErrDisk) && err != nil {
						t.Error(err)
					}
					u.Close()
					return
				}
			}
		})
	}
	for range sent {
		<-going
	}
	h.Close()
	wg.Wait()
	h.start()
	h.awaitScan()
	h.wantLedgerRight()
	for i, n := range sent {
		u := h.openUpload(i)
		if u.Size() != n {
			t.Errorf("%d bytes were taken, %d are there", n, u.Size())
		}
		got := make([]byte, n)
		if _, err := u.ReadAtContext(t.Context(), got, 0); err != nil || !bytes.Equal(got, o.bytes[:n]) {
			t.Errorf("other bytes: %v", err)
		}
	}
}
