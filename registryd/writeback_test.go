package registryd

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hostlocal/manifest"
)

// wantInBucket checks that the bucket serves all of im as docker.io/<name>.
func (w *world) wantInBucket(name string, im image) {
	w.t.Helper()
	repo, tag, _ := strings.Cut("docker.io/"+name, ":")
	w.bucket.data.Lock()
	defer w.bucket.data.Unlock()
	b := w.bucket
	switch {
	case b.tags[tagKey{repo, tag}] != im.d:
		w.t.Fatal("no tag in the bucket")
	case !b.revisions[content{repo, im.d}] || string(b.blobs[im.d]) != string(im.body):
		w.t.Fatal("no manifest in the bucket")
	}
	for _, d := range [][]byte{im.config, im.layer} {
		im := im
		im.layer = d
		if !b.layers[content{repo, im.layerDigest()}] || string(b.blobs[im.layerDigest()]) != string(d) {
			w.t.Fatal("a blob is not in the bucket")
		}
	}
}

// wantOrder checks that no link became visible before what it names.
func (w *world) wantOrder(repo, tag string, im image) {
	w.t.Helper()
	log := w.bucket.written()
	before := func(a, b string) {
		w.t.Helper()
		i, j := slices.Index(log, a), slices.Index(log, b)
		if i < 0 || j < 0 || i > j {
			w.t.Fatalf("%q is not before %q in\n%s", a, b, strings.Join(log, "\n"))
		}
	}
	before("blob "+im.layerDigest().String(), "layer "+repo+"@"+im.layerDigest().String())
	before("manifest "+repo+"@"+im.d.String(), "tag "+repo+":"+tag)
}

func TestAPullIsInTheBucketSoonAfter(t *testing.T) {
	for _, how := range []string{"docker", "podman"} {
		t.Run(how, func(t *testing.T) {
			within(t, func(w *world) {
				im := w.hub.push(w.t, "library/app:v1", "one")
				if how == "podman" {
					w.mustGet("library/app:v1", im)
				}
				w.pull("library/app:v1", im)
				time.Sleep(2 * time.Second)
				w.wantInBucket("library/app:v1", im)
				w.wantOrder("docker.io/library/app", "v1", im)
				w.wantCalls(&w.bucket.calls, "PUTBLOB", 2)
				if s := w.g.Status().WriteBack; s.Pending != 0 || s.Dropped != 0 || s.Failed != 0 {
					w.t.Fatalf("%+v", s)
				}
			})
		})
	}
}

func TestABlobGoesToTheBucketWhileItIsFilled(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		put := make(chan struct{})
		w.bucket.on("PUTBLOB", func(context.Context) error { close(put); return nil })
		b, err := w.g.Blob(w.t.Context(), w.repo("library/app"), im.layerDigest(), 0, false)
		if err != nil {
			w.t.Fatal(err)
		}
		defer b.Close()
		<-put
	})
}

func TestWithoutMirrorNothingIsWritten(t *testing.T) {
	within(t, func(w *world) {
		w.pull("library/app:v1", w.hub.push(w.t, "library/app:v1", "one"))
		time.Sleep(time.Minute)
		if got := w.bucket.written(); len(got) != 0 {
			w.t.Fatalf("written: %v", got)
		}
	}, func(w *world) { w.opt.Mirror = false })
}

func TestATagThatMovedIsMovedInTheBucket(t *testing.T) {
	within(t, func(w *world) {
		w.pull("library/app:v1", w.hub.push(w.t, "library/app:v1", "one"))
		moved := w.hub.push(w.t, "library/app:v1", "two")
		time.Sleep(time.Minute)
		w.pull("library/app:v1", moved)
		time.Sleep(2 * time.Second)
		w.wantInBucket("library/app:v1", moved)
	})
}

func TestABucketThatWasDownCatchesUp(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %v", restart), func(t *testing.T) {
			within(t, func(w *world) {
				im := w.hub.push(w.t, "library/app:v1", "one")
				w.bucket.fail("", errOutage)
				w.pull("library/app:v1", im)
				time.Sleep(10 * time.Minute)
				if s := w.g.Status().WriteBack; s.Pending != 3 || s.Trouble == "" {
					w.t.Fatalf("%+v", s)
				}
				up := w.hub.count("")
				if restart {
					w.restart()
				}
				w.bucket.heal()
				time.Sleep(2 * retryMost)
				w.wantInBucket("library/app:v1", im)
				if s := w.g.Status().WriteBack; s.Pending != 0 || s.Trouble != "" {
					w.t.Fatalf("%+v", s)
				}
				w.wantCalls(&w.hub.calls, "", up)
				time.Sleep(2 * pendingDelay)
				if b, err := os.ReadFile(filepath.Join(w.dir, "pending")); err != nil || len(b) != 0 {
					w.t.Fatalf("the pending file says %q, %v", b, err)
				}
			})
		})
	}
}

// What a client has the last byte of stands in the file at that moment, before
// anything that is done behind the pull could have put it there.
func TestAKilledProcessLeavesItsPendingWrites(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.bucket.stall("")
		start := time.Now()
		w.pull("library/app:v1", im)
		kept, err := os.ReadFile(filepath.Join(w.dir, "pending"))
		if err != nil {
			w.t.Fatal(err)
		}
		if took := time.Since(start); took >= pendingDelay {
			w.t.Fatalf("the pull took %v: the file may have been written behind it", took)
		}
		w.bucket.heal()
		w.stop()
		for _, torn := range []string{"", `{"repo":"docker.io/library/app","dig`} {
			if err := os.WriteFile(filepath.Join(w.dir, "pending"), append(slices.Clone(kept), torn...), 0o600); err != nil {
				w.t.Fatal(err)
			}
			w.bucket.data.Lock()
			clear(w.bucket.blobs)
			clear(w.bucket.layers)
			clear(w.bucket.revisions)
			clear(w.bucket.tags)
			w.bucket.data.Unlock()
			w.start()
			time.Sleep(2 * time.Second)
			w.wantInBucket("library/app:v1", im)
			w.stop()
		}
		w.start()
	})
}

// It is owed before it is on the disk: a kill in between would leave a manifest here
// of which nobody knows that the bucket lacks it. So one that the disk does not take
// is written all the same, from memory.
func TestAManifestIsOwedBeforeItIsOnTheDisk(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		spool := filepath.Join(w.dir, "spool")
		if err := os.Remove(spool); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(spool, nil, 0o600); err != nil {
			w.t.Fatal(err)
		}
		if a := w.mustGet("library/app@"+im.d.String(), im); a.Source != SourceUpstream {
			w.t.Fatalf("it came from %q: the disk took it", a.Source)
		}
		time.Sleep(time.Second)
		if ok, err := w.bucket.HasManifest(w.t.Context(), "docker.io/library/app", im.d); !ok || err != nil {
			w.t.Fatalf("it is not in the bucket: %v", err)
		}
	})
}

// A kill may come when the bucket has the bytes of something and not its link, and this
// disk has not got them yet: whoever gets it next has it from the bucket, and does not owe
// it.
func TestWhatAKillLeftWithoutItsLinkGetsIt(t *testing.T) {
	for _, has := range []string{"all", "less of the layer", "nothing"} {
		there, whole := has != "nothing", has == "all"
		within(t, func(w *world) {
			im, repo := w.hub.push(w.t, "library/app:v1", "one"), "docker.io/library/app"
			layer := manifest.DigestOf(im.layer)
			w.stop()
			var lines []byte
			for _, x := range []write{{Repo: repo, Digest: im.d, Manifest: true}, {Repo: repo, Digest: layer, Size: int64(len(im.layer))}} {
				line, err := json.Marshal(record{write: x})
				if err != nil {
					w.t.Fatal(err)
				}
				lines = append(append(lines, line...), '\n')
			}
			if err := os.WriteFile(filepath.Join(w.dir, "pending"), lines, 0o600); err != nil {
				w.t.Fatal(err)
			}
			if there {
				w.bucket.data.Lock()
				w.bucket.blobs[im.d], w.bucket.blobs[layer] = im.body, im.layer
				if !whole {
					w.bucket.blobs[layer] = im.layer[:100]
				}
				w.bucket.data.Unlock()
			}
			w.bucket.fail("", errOutage)
			w.start()
			time.Sleep(time.Minute)
			w.bucket.heal()
			time.Sleep(2 * retryMost)
			linked, err := w.bucket.HasManifest(w.t.Context(), repo, im.d)
			_, lerr := w.bucket.LayerLink(w.t.Context(), repo, layer)
			if err != nil || linked != there || (lerr == nil) != whole {
				w.t.Errorf("the bucket has %s; the manifest's link: %v, %v, the layer's: %v", has, linked, err, lerr)
			}
			if !w.idle() {
				w.t.Error("something is owed")
			}
		})
	}
}

func TestAReadOnlyBucketIsNoTrouble(t *testing.T) {
	within(t, func(w *world) {
		for _, op := range []string{"PUTBLOB", "PUTMANIFEST", "PUTTAG", "LINKLAYER"} {
			w.bucket.fail(op, fmt.Errorf("bucket: %w", fs.ErrPermission))
		}
		w.pull("library/app:v1", w.hub.push(w.t, "library/app:v1", "one"))
		synctest.Wait()
		if s := w.g.Status().WriteBack; s.Pending != 0 || s.Refused == 0 || s.Failed != 0 || s.Trouble != "" {
			w.t.Fatalf("%+v", s)
		}
	})
}

func TestABucketThatRefusedTheCredentialsCatchesUp(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.bucket.fail("", fmt.Errorf("bucket: %w", fs.ErrPermission))
		w.pull("library/app:v1", im)
		time.Sleep(time.Minute)
		w.bucket.heal()
		time.Sleep(2 * retryMost)
		w.wantInBucket("library/app:v1", im)
	})
}

func TestABucketThatIsDownIsAskedRarely(t *testing.T) {
	within(t, func(w *world) {
		w.bucket.fail("", errOutage)
		for i := range 50 {
			name := fmt.Sprintf("library/app%d:v1", i)
			w.pull(name, w.hub.push(w.t, name, fmt.Sprint(i)))
		}
		time.Sleep(10 * time.Minute)
		before := w.bucket.count("")
		time.Sleep(10 * time.Minute)
		if n := w.bucket.count("") - before; n > 10*(blobWriters+manifestWriters) {
			w.t.Fatalf("%d attempts in ten minutes", n)
		}
	})
}

func TestABlobThatWasHereIsLinkedForItsNewRepository(t *testing.T) {
	within(t, func(w *world) {
		w.pull("library/first:v1", w.hub.push(w.t, "library/first:v1", "one"))
		synctest.Wait()
		im := w.hub.push(w.t, "library/second:v1", "one")
		w.pull("library/second:v1", im)
		time.Sleep(2 * time.Second)
		w.wantInBucket("library/second:v1", im)
		w.wantCalls(&w.hub.calls, "BLOB", 2)
		up, bucket := w.hub.count(""), w.bucket.count("")
		w.pull("library/second:v1", im)
		synctest.Wait()
		w.wantCalls(&w.hub.calls, "", up)
		w.wantCalls(&w.bucket.calls, "", bucket)
	})
}

func TestAnEvictedBlobIsNotWrittenAnyMore(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.bucket.fail("", errOutage)
		w.pull("library/app:v1", im)
		synctest.Wait()
		if err := w.cache.Remove(im.layerDigest()); err != nil {
			w.t.Fatal(err)
		}
		up := w.hub.count("")
		w.bucket.heal()
		time.Sleep(2 * retryMost)
		if s := w.g.Status().WriteBack; s.Pending != 0 || s.Dropped != 1 {
			w.t.Fatalf("%+v", s)
		}
		w.wantCalls(&w.hub.calls, "", up)
	})
}

func TestAFullListDropsWhatComes(t *testing.T) {
	within(t, func(w *world) {
		w.bucket.stall("")
		for i := range maxPending + 10 {
			w.g.writer.blob("docker.io/library/app", newImage(w.t, fmt.Sprint(i)).layerDigest(), 1)
		}
		if s := w.g.Status().WriteBack; s.Pending > maxPending || s.Dropped < 10 {
			w.t.Fatalf("%+v", s)
		}
	})
}

func TestADamagedPendingFileLosesOnlyItsDamagedLines(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.bucket.fail("", errOutage)
		w.pull("library/app:v1", im)
		w.stop()
		p := filepath.Join(w.dir, "pending")
		b, err := os.ReadFile(p)
		if err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(p, append([]byte("{\"repo\":\n\x00\xff\n{}\n"), b...), 0o600); err != nil {
			w.t.Fatal(err)
		}
		w.bucket.heal()
		w.start()
		time.Sleep(2 * time.Second)
		w.wantInBucket("library/app:v1", im)
	})
}

// Many writes that fail in one second are one failure of the bucket: it is written
// to soon after it is back, and not when a minute is over.
func TestAShortOutageIsNotMistakenForALongOne(t *testing.T) {
	within(t, func(w *world) {
		w.bucket.fail("", errOutage)
		images := map[string]image{}
		for i := range 20 {
			name := fmt.Sprintf("library/app%d:v1", i)
			images[name] = w.hub.push(w.t, name, fmt.Sprint(i))
			w.pull(name, images[name])
		}
		time.Sleep(2 * time.Second)
		w.bucket.heal()
		time.Sleep(10 * time.Second)
		for name, im := range images {
			w.wantInBucket(name, im)
		}
		if s := w.g.Status(); s.WriteBack.Trouble != "" || s.Store.Failures != 0 {
			t.Errorf("trouble is still reported: %+v", s)
		}
	})
}

// TestATagThatTheBucketLostIsWrittenAgain: another host saw the tag elsewhere for a
// while, or a kill kept the tag from the bucket. This host sees it where it always was.
func TestATagThatTheBucketLostIsWrittenAgain(t *testing.T) {
	for name, later := range map[string]func(*world){
		"after a while":   func(*world) { time.Sleep(storedTTL + time.Minute) },
		"after a restart": func(w *world) { w.restart(); time.Sleep(2 * time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(w *world) {
				im := w.hub.push(w.t, "library/app:v1", "one")
				w.pull("library/app:v1", im)
				synctest.Wait()
				w.wantInBucket("library/app:v1", im)
				other := w.hub.push(w.t, "library/other:v1", "two")
				if err := w.bucket.PutTag(w.t.Context(), "docker.io/library/app", "v1", other.d); err != nil {
					w.t.Fatal(err)
				}
				later(w)
				w.mustGet("library/app:v1", im)
				synctest.Wait()
				w.wantInBucket("library/app:v1", im)
			})
		})
	}
}
