package registryd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hostlocal/manifest"
)

// resuming is a memStore that takes blobs in parts.
type resuming struct {
	*memStore
	notes int // that it tells of before it goes on to PutBlob

	mu        sync.Mutex // guards the rest
	earlier   [][]string // what each call was handed
	abandoned [][]string
}

func (r *resuming) ResumeBlob(ctx context.Context, d manifest.Digest, size int64, b io.ReaderAt, earlier []string, note func(string)) error {
	r.mu.Lock()
	r.earlier = append(r.earlier, slices.Clone(earlier))
	r.mu.Unlock()
	for i := range r.notes {
		note(fmt.Sprint("note ", i))
	}
	err := r.PutBlob(ctx, d, size, b)
	if err == nil {
		note("")
	}
	return err
}

func (r *resuming) AbandonBlob(ctx context.Context, d manifest.Digest, notes []string) error {
	if err := r.enter(ctx, "ABANDON", d.String()); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.abandoned = append(r.abandoned, slices.Clone(notes))
	return nil
}

// inParts has w's bucket take blobs in parts.
func (w *world) inParts(notes int) *resuming {
	r := &resuming{memStore: w.bucket, notes: notes}
	w.opt.Store = r // of the next start, too
	w.g.writer.store = r
	return r
}

// idle reports whether the bucket is owed nothing.
func (w *world) idle() bool {
	w.g.writer.mu.Lock()
	defer w.g.writer.mu.Unlock()
	return w.g.writer.idle()
}

func (r *resuming) wantAbandoned(t *testing.T, want ...[]string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.EqualFunc(r.abandoned, want, slices.Equal) {
		t.Fatalf("abandoned %q, want %q", r.abandoned, want)
	}
}

func TestNotesOfAnAttemptAreHandedToTheNextOne(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %v", restart), func(t *testing.T) {
			within(t, func(w *world) {
				r := w.inParts(2)
				w.bucket.fail("PUTBLOB", errOutage)
				im := w.hub.push(w.t, "library/app:v1", "one")
				b, err := w.blob("library/app", im.layerDigest())
				if err != nil || len(b) != len(im.layer) {
					w.t.Fatal(err)
				}
				time.Sleep(retryFirst / 2)
				if restart {
					w.stop()
				}
				w.bucket.heal()
				if restart {
					w.start()
				}
				time.Sleep(2 * retryFirst)
				synctest.Wait()
				if want := [][]string{nil, {"note 0", "note 1"}}; !slices.EqualFunc(r.earlier, want, slices.Equal) {
					w.t.Fatalf("handed were %q, want %q", r.earlier, want)
				}
				time.Sleep(time.Minute)
				if s := w.g.Status().WriteBack; s.Pending != 0 || !w.idle() {
					w.t.Fatalf("%+v", s)
				}
			})
		})
	}
}

// A blob that is evicted before the bucket has it leaves parts that nobody will go on
// with; a bucket that does not answer is asked again.
func TestUploadThatNobodyGoesOnWithIsRemoved(t *testing.T) {
	within(t, func(w *world) {
		r := w.inParts(1)
		w.bucket.fail("PUTBLOB", errOutage)
		w.bucket.fail("ABANDON", errOutage)
		im := w.hub.push(w.t, "library/app:v1", "one")
		if _, err := w.blob("library/app", im.layerDigest()); err != nil {
			w.t.Fatal(err)
		}
		synctest.Wait()
		if err := w.cache.Remove(im.layerDigest()); err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(abandonAfter / 2)
		if n := w.bucket.count("ABANDON"); n > 0 {
			w.t.Fatalf("removed %d times while somebody might have gone on", n)
		}
		time.Sleep(abandonAfter)
		w.bucket.heal()
		time.Sleep(2 * retryMost)
		r.wantAbandoned(w.t, []string{"note 0"})
		if s := w.g.Status().WriteBack; s.Pending != 0 || !w.idle() {
			w.t.Fatalf("%+v", s)
		}
	})
}

// The same blob is pulled again in time.
func TestUploadThatSomebodyGoesOnWithIsNotRemoved(t *testing.T) {
	within(t, func(w *world) {
		r := w.inParts(1)
		w.bucket.fail("PUTBLOB", errGone)
		im := w.hub.push(w.t, "library/app:v1", "one")
		if _, err := w.blob("library/app", im.layerDigest()); err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(abandonAfter / 2)
		w.bucket.heal()
		w.pull("library/app:v1", im)
		time.Sleep(2 * abandonAfter)
		w.wantInBucket("library/app:v1", im)
		r.wantAbandoned(w.t)
		if !w.idle() {
			w.t.Fatal("something is still owed")
		}
	})
}

func TestABucketThatRefusesToRemoveAnUploadIsNotAskedAgain(t *testing.T) {
	within(t, func(w *world) {
		r := w.inParts(1)
		w.bucket.fail("PUTBLOB", errGone)
		w.bucket.fail("ABANDON", fmt.Errorf("bucket: %w", fs.ErrPermission))
		im := w.hub.push(w.t, "library/app:v1", "one")
		if _, err := w.blob("library/app", im.layerDigest()); err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		r.wantAbandoned(w.t)
		if n := w.bucket.count("ABANDON"); n != 1 || !w.idle() {
			w.t.Fatalf("asked %d times, idle %v", n, w.idle())
		}
	})
}

// Nor does what becomes of removals hold up what is pulled, or count for it.
func TestWhatCannotBeRemovedHoldsUpNoWrite(t *testing.T) {
	within(t, func(w *world) {
		r := w.inParts(1)
		const left = 2 * pauseAfter
		leave := func(seed string) {
			w.bucket.fail("PUTBLOB", errGone)
			im := w.hub.push(w.t, "library/left:v1", seed)
			if _, err := w.blob("library/left", im.layerDigest()); err != nil {
				w.t.Fatal(err)
			}
			synctest.Wait()
			w.bucket.on("PUTBLOB", nil)
		}
		w.bucket.fail("ABANDON", errOutage)
		for i := range left {
			leave(fmt.Sprint("left ", i))
			time.Sleep(10 * time.Second)
		}
		time.Sleep(2 * abandonAfter)
		if n := w.bucket.count("ABANDON"); n < 2*left {
			w.t.Fatalf("%d removals were tried", n)
		}
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.pull("library/app:v1", im)
		time.Sleep(2 * time.Second)
		w.wantInBucket("library/app:v1", im)
		if s := w.g.Status().WriteBack; s.Pending != left || s.Trouble != "" || s.Failed != 0 {
			w.t.Errorf("%+v", s)
		}
		// That something was removed does not say that the bucket takes anything.
		done := w.g.Status().WriteBack.Done
		w.bucket.on("ABANDON", nil)
		time.Sleep(2 * retryMost)
		if s := w.g.Status().WriteBack; s.Pending != 0 || s.Done != done {
			w.t.Errorf("%+v, of which %d were done before", s, done)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if n := len(r.abandoned); n != left {
			w.t.Errorf("%d were removed", n)
		}
	})
}

// Two repositories have the layer: it goes to the bucket once, and is linked twice.
func TestOneBlobOfTwoRepositoriesIsSentOnce(t *testing.T) {
	within(t, func(w *world) {
		r := w.inParts(1)
		gate := make(chan struct{})
		w.bucket.on("PUTBLOB", func(context.Context) error { <-gate; return nil })
		d := newImage(w.t, "one").layerDigest()
		for _, repo := range []string{"library/a", "library/b"} {
			w.hub.push(w.t, repo+":v1", "one")
			if _, err := w.blob(repo, d); err != nil && !errors.Is(err, fs.ErrNotExist) {
				w.t.Fatal(err)
			}
			w.g.writer.blob("docker.io/"+repo, d, -1)
		}
		time.Sleep(time.Second)
		r.mu.Lock()
		n := len(r.earlier)
		r.mu.Unlock()
		if n != 1 {
			w.t.Errorf("%d uploads of one blob at once", n)
		}
		close(gate)
		time.Sleep(time.Second)
		for _, repo := range []string{"docker.io/library/a", "docker.io/library/b"} {
			if _, err := w.bucket.LayerLink(w.t.Context(), repo, d); err != nil {
				w.t.Errorf("%s is not linked: %v", repo, err)
			}
		}
	})
}
