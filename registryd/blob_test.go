package registryd

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestAColdBlobIsGotOnceForAll(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		gate := make(chan struct{})
		w.hub.on("BLOB", func(context.Context) error { <-gate; return nil })
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if b, err := w.blob("library/app", im.layerDigest()); err != nil || im.layerDigest().Verify(b) != nil {
					w.t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(gate)
		wg.Wait()
		w.wantCalls(&w.hub.calls, "", 1)
	})
}

func TestABlobIsServedOnlyWhereItIsNamed(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/secret:v1", "one")
		d := im.layerDigest()
		w.pull("library/secret:v1", im)
		for _, repo := range []string{"library/other", "ghcr.io/x/y", "own/app"} {
			_, err := w.blob(repo, d)
			w.wantMiss(err)
			_, _, err = w.g.StatBlob(w.t.Context(), w.repo(repo), d)
			w.wantMiss(err)
		}
		w.hub.fail("BLOB", fmt.Errorf("hub: %w", fs.ErrPermission))
		if _, err := w.blob("library/third", d); !answered(err) {
			w.t.Fatalf("got %v, want a refusal", err)
		}
		w.hub.fail("BLOB", errOutage)
		_, err := w.blob("library/fourth", d)
		w.wantOutage(err)
	})
}

func TestJoiningAFillProvesNothing(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/secret:v1", "one")
		d := im.layerDigest()
		gate := make(chan struct{})
		w.hub.on("BLOB", func(context.Context) error { <-gate; return nil })
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := w.blob("library/secret", d); err != nil {
				w.t.Error(err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if _, err := w.blob("library/other", d); err == nil {
				w.t.Error("a blob of another repository's fill was served")
			}
		})
		synctest.Wait()
		close(gate)
		wg.Wait()
	}, withoutBucket)
}

func TestABlobOnDiskIsProvenByTheTagsOnDisk(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.mustGet("library/app:v1", im)
		// Another repository brings the layer; this one has never served it.
		w.hub.push(w.t, "library/other:v1", "one")
		if _, err := w.blob("library/other", im.layerDigest()); err != nil {
			w.t.Fatal(err)
		}
		synctest.Wait()
		w.restart()
		w.hub.fail("", errOutage)
		w.bucket.fail("", errOutage)
		if _, err := w.blob("library/app", im.layerDigest()); err != nil {
			w.t.Fatal(err)
		}
	})
}

func TestABlobComesFromTheBucketFirst(t *testing.T) {
	within(t, func(w *world) {
		im := w.bucket.push(w.t, "docker.io/library/app:v1", "one")
		w.hub.push(w.t, "library/app:v1", "one")
		if _, err := w.blob("library/app", im.layerDigest()); err != nil {
			w.t.Fatal(err)
		}
		w.wantCalls(&w.hub.calls, "", 0)
		w.wantCalls(&w.bucket.calls, "LAYERLINK", 1)
	})
}

func TestABlobNamedByAManifestCostsTheBucketNoQuestion(t *testing.T) {
	within(t, func(w *world) {
		im := w.bucket.push(w.t, "docker.io/library/app:v1", "one")
		w.hub.push(w.t, "library/app:v1", "one")
		w.pull("library/app:v1", im)
		w.wantCalls(&w.bucket.calls, "LAYERLINK", 0)
		w.wantCalls(&w.bucket.calls, "STAT", 0)
	})
}

func TestABlobOfAStalledBucketComesFromTheUpstream(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.bucket.stall("")
		w.took(time.Second, func() {
			if _, err := w.blob("library/app", im.layerDigest()); err != nil {
				w.t.Fatal(err)
			}
		})
	})
}

func TestASlowBucketServesABlobWhileTheUpstreamIsOut(t *testing.T) {
	within(t, func(w *world) {
		im := w.bucket.push(w.t, "docker.io/library/app:v1", "one")
		w.hub.fail("", errOutage)
		w.bucket.on("LAYERLINK", func(ctx context.Context) error {
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if _, err := w.blob("library/app", im.layerDigest()); err != nil {
			w.t.Fatal(err)
		}
	})
}

func TestABucketThatRefusesIsNoAnswerToAClient(t *testing.T) {
	within(t, func(w *world) {
		w.bucket.fail("", fmt.Errorf("bucket: %w", fs.ErrPermission))
		_, err := w.blob("own/app", newImage(w.t, "one").layerDigest())
		w.wantOutage(err)
		_, err = w.get("own/app:v1")
		w.wantOutage(err)
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.pull("library/app:v1", im)
	})
}

func TestNoSourceIsAnErrorWithinTenSeconds(t *testing.T) {
	within(t, func(w *world) {
		w.hub.stall("")
		w.bucket.stall("")
		d := newImage(w.t, "one").layerDigest()
		w.took(10*time.Second, func() {
			_, err := w.blob("library/app", d)
			w.wantOutage(err)
		})
		w.took(10*time.Second, func() {
			_, _, err := w.g.StatBlob(w.t.Context(), w.repo("library/app"), d)
			w.wantOutage(err)
		})
		w.took(10*time.Second, func() {
			_, err := w.get("library/app@" + d.String())
			w.wantOutage(err)
		})
	})
}

func TestStatDoesNotFetch(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.bucket.push(w.t, "docker.io/library/old:v1", "two")
		stat := func(repo string, im image, source string) {
			w.t.Helper()
			size, from, err := w.g.StatBlob(w.t.Context(), w.repo(repo), im.layerDigest())
			if err != nil || size != int64(len(im.layer)) || from != source {
				w.t.Fatalf("got %d bytes from %q, %v", size, from, err)
			}
		}
		stat("library/app", im, SourceUpstream)
		for _, c := range w.hub.seen() {
			if !strings.HasSuffix(c, " 0+1") {
				w.t.Fatalf("the upstream was asked %s", c)
			}
		}
		stat("library/old", newImage(w.t, "two"), SourceStore)
		if w.cache.Has(im.layerDigest()) {
			w.t.Fatal("it was fetched")
		}
		w.pull("library/app:v1", im)
		synctest.Wait()
		stat("library/app", im, SourceDisk)
	})
}

func TestStatOfABlobThatIsComingAsksNobody(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.mustGet("library/app:v1", im)
		b, err := w.g.Blob(w.t.Context(), w.repo("library/app"), im.layerDigest(), 0, false)
		if err != nil {
			w.t.Fatal(err)
		}
		defer b.Close()
		if size, _, err := w.g.StatBlob(w.t.Context(), w.repo("library/app"), im.layerDigest()); err != nil || size != int64(len(im.layer)) {
			w.t.Fatalf("%d bytes, %v", size, err)
		}
		w.wantCalls(&w.hub.calls, "BLOB", 1)
		w.wantCalls(&w.bucket.calls, "STAT", 0)
	})
}

func TestOwnBlobsComeFromTheBucketAlone(t *testing.T) {
	within(t, func(w *world) {
		im := w.bucket.push(w.t, "own/app:v1", "one")
		w.pull("own/app:v1", im)
		synctest.Wait()
		w.wantCalls(&w.hub.calls, "", 0)
		if n := len(w.bucket.written()); n != 0 {
			w.t.Fatalf("%d writes to the bucket of what came from it", n)
		}
	})
}
