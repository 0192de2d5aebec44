package registryd

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hostlocal/manifest"
)

// file is where a digest lies on the world's disk.
func (w *world) file(d manifest.Digest) string {
	return filepath.Join(w.dir, "blobs", string(d.Algorithm()), d.Hex()[:2], d.Hex())
}

func TestAThousandClientsOfADigestAreOneRequest(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		gate := make(chan struct{})
		w.hub.on("GET", func(context.Context) error { <-gate; return nil })
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() { w.mustGet("library/app@"+im.d.String(), im) })
		}
		synctest.Wait()
		close(gate)
		wg.Wait()
		w.wantCalls(&w.hub.calls, "", 1)
	}, withoutBucket)
}

func TestManifestOutlivesARestartWithoutANetwork(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.pull("library/app:v1", im)
		synctest.Wait()
		w.restart()
		w.hub.stall("")
		w.bucket.stall("")
		w.took(0, func() { w.pull("library/app:v1", im) })
	})
}

func TestAManifestDamagedOnDiskIsGotAnew(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.mustGet("library/app:v1", im)
		w.stop()
		p := w.file(im.d)
		os.Chmod(p, 0o644)
		wrong := append([]byte(nil), im.body...)
		wrong[10] ^= 1
		if err := os.WriteFile(p, wrong, 0o644); err != nil {
			w.t.Fatal(err)
		}
		w.start()
		if a := w.mustGet("library/app@"+im.d.String(), im); a.Source != SourceFill {
			w.t.Fatalf("source %q", a.Source)
		}
	}, withoutBucket)
}

func TestAWrongManifestInTheBucketIsGotFromTheUpstream(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.bucket.push(w.t, "docker.io/library/app:v1", "one")
		w.bucket.blobs[im.d] = []byte(`{"wrong":true}`)
		w.mustGet("library/app@"+im.d.String(), im)
		w.wantCalls(&w.hub.calls, "GET", 1)
	})
}

func TestAnUpstreamThatSendsAnotherManifestIsAnOutage(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.hub.manifests["library/app@"+im.d.String()] = newImage(w.t, "two").body
		_, err := w.get("library/app@" + im.d.String())
		w.wantOutage(err)
	}, withoutBucket)
}

func TestASlowBucketIsRacedByTheUpstream(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.bucket.stall("")
		w.took(time.Second, func() { w.pull("library/app:v1", im) })
	})
}

func TestABucketThatFailsIsTrouble(t *testing.T) {
	within(t, func(w *world) {
		w.bucket.fail("", errOutage)
		for i := range 10 {
			im := w.hub.push(w.t, "library/app:v1", string(rune('a'+i)))
			w.mustGet("library/app@"+im.d.String(), im)
		}
		if s := w.g.Status(); s.Store.Trouble == "" || s.Store.Failures == 0 {
			w.t.Fatalf("%+v", s.Store)
		}
		w.bucket.heal()
		im := w.hub.push(w.t, "library/app:v1", "z")
		w.mustGet("library/app@"+im.d.String(), im)
		if s := w.g.Status(); s.Store.Trouble != "" {
			w.t.Fatalf("%+v", s.Store)
		}
	}, func(w *world) { w.opt.Mirror = false })
}

func TestAStalledBucketCostsItsPatienceAndIsTrouble(t *testing.T) {
	within(t, func(w *world) {
		w.bucket.stall("")
		for i := range 20 {
			im := w.hub.push(w.t, "library/app:v1", string(rune('a'+i)))
			w.took(w.bucket.patience*3, func() { w.mustGet("library/app@"+im.d.String(), im) })
		}
		if s := w.g.Status(); s.Store.Trouble == "" || s.Store.Failures == 0 {
			w.t.Fatalf("%+v", s.Store)
		}
	}, func(w *world) { w.opt.Mirror = false })
}

func TestAnUpstreamsNoEndsTheWaitForASlowBucket(t *testing.T) {
	within(t, func(w *world) {
		w.bucket.stall("")
		w.took(time.Second, func() {
			_, err := w.get("library/app@" + newImage(w.t, "one").d.String())
			w.wantMiss(err)
		})
	})
}

func TestATagThatMovedToWhatNobodyGivesIsServedAsItWas(t *testing.T) {
	for name, fault := range map[string]func(*calls){
		"refused": func(c *calls) { c.fail("GET", errOutage) },
		"stalled": func(c *calls) { c.stall("GET") },
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(w *world) {
				old := w.hub.push(w.t, "library/app:v1", "one")
				w.pull("library/app:v1", old)
				moved := w.hub.push(w.t, "library/app:v1", "two")
				time.Sleep(time.Minute)
				fault(&w.hub.calls)
				w.took(2*time.Second, func() {
					if a := w.mustGet("library/app:v1", old); a.Warning == "" {
						w.t.Fatal("no warning")
					}
				})
				w.hub.heal()
				time.Sleep(flightLimit)
				w.mustGet("library/app:v1", moved)
			}, withoutBucket)
		})
	}
}

func TestAManifestIsServedOnlyWhereItIsNamed(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/secret:v1", "one")
		w.mustGet("library/secret:v1", im)
		synctest.Wait() // it is in the bucket, too
		_, err := w.get("library/other@" + im.d.String())
		w.wantMiss(err)
		_, err = w.get("ghcr.io/x/y@" + im.d.String())
		w.wantMiss(err)
		_, err = w.get("own/app@" + im.d.String())
		w.wantMiss(err)
		if err := w.cache.Remove(im.d); err != nil {
			w.t.Fatal(err)
		}
		w.restart()
		_, err = w.get("library/other@" + im.d.String())
		w.wantMiss(err)
		w.mustGet("library/secret:v1", im)
		w.hub.push(w.t, "library/other:v1", "one")
		if a := w.mustGet("library/other@"+im.d.String(), im); a.Source != SourceDisk {
			w.t.Fatalf("source %q", a.Source)
		}
	})
}
