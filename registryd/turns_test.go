package registryd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"hostlocal/manifest"
)

// pushBlob pushes to own/app, and says nothing of the length before.
func (w *world) pushBlob(body []byte) error { return w.pushFrom(bytes.NewReader(body), body, -1) }

func (w *world) pushFrom(r io.Reader, body []byte, length int64) error {
	w.t.Helper()
	s, err := w.g.newUpload(w.t.Context(), w.repo("own/app"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer s.close()
	return s.finish(w.t.Context(), manifest.DigestOf(body), &received{body: r, length: length, left: pick(length < 0, maxUpload, length)})
}

func withoutMirror(w *world) { w.opt.Mirror = false }

func TestAPushGoesOnWithThePartsOfTheLastAttempt(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %v", restart), func(t *testing.T) {
			within(t, func(w *world) {
				r := w.inParts(2)
				body := pattern(100_000)
				w.bucket.fail("PUTBLOB", errOutage)
				if err := w.pushBlob(body); !errors.Is(err, errOutage) {
					w.t.Fatal(err)
				}
				if restart {
					w.restart()
				}
				w.bucket.heal()
				if err := w.pushBlob(body); err != nil {
					w.t.Fatal(err)
				}
				if want := [][]string{nil, {"note 0", "note 1"}}; !slices.EqualFunc(r.earlier, want, slices.Equal) {
					w.t.Fatalf("handed were %q, want %q", r.earlier, want)
				}
				time.Sleep(time.Hour)
				r.wantAbandoned(w.t)
				if !w.idle() {
					w.t.Error("something is owed")
				}
			}, withoutMirror)
		})
	}
}

// After a kill -9, too: what was noted is in the file when the part is sent.
func TestPartsOfAPushThatNobodyGoesOnWithAreRemoved(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %v", restart), func(t *testing.T) {
			within(t, func(w *world) {
				r := w.inParts(1)
				w.bucket.fail("PUTBLOB", errOutage)
				if err := w.pushBlob(pattern(1000)); err == nil {
					w.t.Fatal("it was acknowledged")
				}
				if restart {
					kept, err := os.ReadFile(filepath.Join(w.dir, "pending"))
					if err != nil {
						w.t.Fatal(err)
					}
					w.stop()
					if err := os.WriteFile(filepath.Join(w.dir, "pending"), kept, 0o600); err != nil {
						w.t.Fatal(err)
					}
					w.start()
				}
				time.Sleep(abandonAfter - time.Second)
				r.wantAbandoned(w.t)
				time.Sleep(time.Minute)
				r.wantAbandoned(w.t, []string{"note 0"})
				if !w.idle() {
					w.t.Error("something is owed")
				}
			}, withoutMirror)
		})
	}
}

func TestPartsThatSomebodyKeepsGoingOnWithStay(t *testing.T) {
	within(t, func(w *world) {
		r := w.inParts(1)
		w.bucket.fail("PUTBLOB", errOutage)
		for range 5 {
			if err := w.pushBlob(pattern(1000)); err == nil {
				w.t.Fatal("it was acknowledged")
			}
			time.Sleep(abandonAfter * 2 / 3)
		}
		r.wantAbandoned(w.t)
	})
}

// Nor are they removed under a client that goes on with them slowly.
func TestPartsThatSomebodyIsSendingStay(t *testing.T) {
	within(t, func(w *world) {
		r := w.inParts(1)
		body := pattern(1000)
		w.bucket.fail("PUTBLOB", errOutage)
		if err := w.pushBlob(body); err == nil {
			w.t.Fatal("it was acknowledged")
		}
		w.bucket.heal()
		slow, from := io.Pipe()
		done := make(chan error, 1)
		go func() { done <- w.pushFrom(slow, body, int64(len(body))) }()
		from.Write(body[:500])
		time.Sleep(2 * abandonAfter)
		from.Write(body[500:])
		from.Close()
		if err := <-done; err != nil {
			w.t.Fatal(err)
		}
		r.wantAbandoned(w.t)
		w.wantCalls(&w.bucket.calls, "PUTBLOB", 2)
	})
}

// Wrong bytes are never completed: the last of them is held back until the digest is
// known.
func TestTheLastByteIsHeldBackUntilTheDigestMatched(t *testing.T) {
	within(t, func(w *world) {
		body := pattern(100_000)
		wrong := slices.Clone(body)
		wrong[0] ^= 1
		got := make(chan error, 1)
		w.bucket.on("PUTBLOB", func(context.Context) error { got <- nil; return nil })
		err := w.pushFrom(bytes.NewReader(wrong), body, int64(len(body)))
		if !errors.Is(err, manifest.ErrMismatch) {
			w.t.Fatal(err)
		}
		<-got // it was on its way
		if _, err := w.bucket.blob(manifest.DigestOf(body)); err == nil || len(w.bucket.written()) > 0 {
			w.t.Error("the bucket has it")
		}
	})
}

// A blob goes to the bucket while it arrives, if it was said what it is.
func TestABlobGoesToTheBucketWhileItArrives(t *testing.T) {
	within(t, func(w *world) {
		body := pattern(100_000)
		r, from := io.Pipe()
		put := make(chan struct{})
		w.bucket.on("PUTBLOB", func(context.Context) error { close(put); return nil })
		done := make(chan error, 1)
		go func() { done <- w.pushFrom(r, body, int64(len(body))) }()
		<-put
		from.Write(body)
		from.Close()
		if err := <-done; err != nil {
			w.t.Fatal(err)
		}
		w.wantCalls(&w.bucket.calls, "PUTBLOB", 1)
	})
}

// The write-back of the same blob has all of it, and does not wait for a client.
func TestAWriteBackIsNotHeldUpByASlowPush(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		r, from := io.Pipe()
		done := make(chan error, 1)
		go func() { done <- w.pushFrom(r, im.layer, int64(len(im.layer))) }()
		from.Write(im.layer[:1000])
		synctest.Wait()
		w.pull("library/app:v1", im)
		time.Sleep(2 * time.Second)
		w.wantInBucket("library/app:v1", im)
		from.Write(im.layer[1000:])
		from.Close()
		if err := <-done; err != nil {
			w.t.Fatal(err)
		}
		if _, err := w.bucket.LayerLink(w.t.Context(), "own/app", im.layerDigest()); err != nil {
			w.t.Errorf("it is not linked: %v", err)
		}
	})
}

// A write-back goes at the pace of its fill, which may take an hour; who has all of the
// blob does not wait for that.
func TestAPushIsNotHeldUpByAWriteBackOfTheSameBlob(t *testing.T) {
	for _, stays := range []bool{true, false} {
		within(t, func(w *world) {
			im := w.hub.push(w.t, "library/app:v1", "one")
			w.hub.pauses = make(chan struct{})
			b, err := w.g.Blob(w.t.Context(), w.repo("library/app"), im.layerDigest(), 0, false)
			if err != nil {
				w.t.Fatal(err)
			}
			defer b.Close()
			synctest.Wait()
			w.wantCalls(&w.bucket.calls, "PUTBLOB", 1)
			ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
			defer cancel()
			w.bucket.on("PUTBLOB", func(context.Context) error {
				if w.bucket.on("PUTBLOB", nil); !stays {
					cancel()
					return context.Canceled
				}
				return nil
			})
			w.took(time.Second, func() {
				err = w.g.writer.push(ctx, im.layerDigest(), int64(len(im.layer)), func(context.Context) io.ReaderAt { return bytes.NewReader(im.layer) }, false)
			})
			if (err == nil) != stays {
				w.t.Fatal(err)
			}
			close(w.hub.pauses)
			time.Sleep(10 * time.Second)
			if s := w.g.Status().WriteBack; s.Pending != 0 || s.Dropped != 0 || s.Failed != 0 {
				w.t.Fatalf("%+v", s)
			}
			if _, err := w.bucket.LayerLink(w.t.Context(), "docker.io/library/app", im.layerDigest()); err != nil {
				w.t.Errorf("the write-back was forgotten: %v", err)
			}
		})
	}
}

// What was owed to the bucket is not any more once it is not to be a mirror.
func TestWhatIsOwedEndsWithTheMirror(t *testing.T) {
	within(t, func(w *world) {
		w.bucket.fail("", errOutage)
		w.pull("library/app:v1", w.hub.push(w.t, "library/app:v1", "one"))
		w.stop()
		w.bucket.heal()
		w.opt.Mirror = false
		w.start()
		time.Sleep(time.Hour)
		if got := w.bucket.written(); len(got) != 0 {
			w.t.Fatalf("written: %v", got)
		}
	})
}

func TestAnUploadThatNobodyGoesOnWithExpires(t *testing.T) {
	p := newPusher(t)
	old, young := p.begin("own/app"), p.begin("own/app")
	for _, at := range []string{old, young} {
		p.want(p.send("PATCH", at, pattern(1000)), 202)
	}
	name := spoolName("own/app", old[len(old)-32:])
	then := time.Now().Add(-uploadExpiry - time.Minute)
	if err := os.Chtimes(filepath.Join(p.dir, "uploads", name), then, then); err != nil {
		t.Fatal(err)
	}
	p.restart()
	// Who asked for it just then would keep it, until it is looked again.
	p.waitFor("it is gone", func() bool { return !slices.Contains(p.spooled(), name) })
	p.wantError(p.get(old), 404, "BLOB_UPLOAD_UNKNOWN")
	p.wantStands(young, 1000)
}
