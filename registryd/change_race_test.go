package registryd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hostlocal/manifest"
)

// A push that takes so long that a delete by another host looks no more for its tags
// looks itself.
func TestASlowPushThatAnotherHostsDeleteOvertookIsThere(t *testing.T) {
	for _, slow := range []bool{false, true} {
		two(t, func(a, b *world) {
			im := a.push("own/app:v1", "one")
			signature := artifact(t, im, manifest.Descriptor{MediaType: manifest.OCIManifest, Digest: im.d, Size: int64(len(im.body))}, "application/a")
			d := manifest.DigestOf(signature)
			a.bucket.on("PUTTAG", func(context.Context) error {
				a.bucket.on("PUTTAG", nil)
				if slow {
					b.wantCode(b.send("DELETE", "/v2/own/app/manifests/"+d.String(), nil), 202, "")
					time.Sleep(time.Second)
				}
				return nil
			})
			looks := a.bucket.count("HASMANIFEST")
			a.wantCode(a.send("PUT", "/v2/own/app/manifests/v2", signature), 201, "")
			if n := a.bucket.count("HASMANIFEST") - looks; n != pick(slow, 1, 0) {
				t.Errorf("slow %v: %d looks", slow, n)
			}
			time.Sleep(linkTTL)
			for _, w := range []*world{a, b} {
				if got, err := w.get("own/app:v2"); err != nil || got.Manifest.Digest != d {
					t.Errorf("slow %v: %v", slow, err)
				}
				if list, _ := w.referrers("/v2/own/app/referrers/" + im.d.String()); len(list) != 1 {
					t.Errorf("slow %v: referrers %v", slow, list)
				}
			}
		})
	}
}

// So does one whose second tag fails, or whose client leaves: the first stands.
func TestASlowPushThatFailsLeavesNoTagWithoutItsManifest(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		two(t, func(a, b *world) {
			im := newImage(t, "one")
			a.upload("own/app", im)
			repo, err := a.g.ResolvePush("own/app", "")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(a.t.Context())
			defer cancel()
			tags := 0
			a.bucket.on("PUTTAG", func(ctx context.Context) error {
				if tags++; tags == 1 {
					b.wantCode(b.send("DELETE", "/v2/own/app/manifests/"+im.d.String(), nil), 202, "")
					time.Sleep(time.Second)
					return nil
				}
				if leaves {
					cancel()
					return ctx.Err()
				}
				return errOutage
			})
			for _, op := range []string{"HASMANIFEST", "PUTMANIFEST"} {
				a.bucket.on(op, func(ctx context.Context) error { return ctx.Err() })
			}
			_, err = a.g.PutManifest(ctx, repo, Put{Ref: Ref{Digest: im.d}, Tags: []string{"v1", "v2"}, Body: bytes.NewReader(im.body), Size: int64(len(im.body))})
			if want := pick(leaves, context.Canceled, errOutage); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
			time.Sleep(linkTTL)
			for _, w := range []*world{a, b} {
				for _, name := range []string{"own/app@" + im.d.String(), "own/app:v1"} { // a tag would be proof enough
					if _, err := w.get(name); err != nil {
						t.Errorf("the client leaves %v: %s: %v", leaves, name, err)
					}
				}
			}
		})
	}
}

// A stock registry's collection takes a blob's bytes and leaves its link. No manifest is
// taken whose blobs the bucket has not got, and what this host has it gets again.
func TestAManifestWhoseBlobsWereCollectedIsNotTakenWithoutThem(t *testing.T) {
	two(t, func(a, b *world) {
		im := a.push("own/app:v1", "one")
		b.get("own/app:v1")
		time.Sleep(referenceTTL)
		a.bucket.data.Lock()
		for _, d := range []manifest.Digest{im.configDigest(), im.layerDigest()} {
			delete(a.bucket.blobs, d)
		}
		a.bucket.data.Unlock()
		rec := b.send("PUT", "/v2/own/app/manifests/v2", im.body)
		b.wantCode(rec, 400, "MANIFEST_BLOB_UNKNOWN")
		for _, d := range []manifest.Digest{im.configDigest(), im.layerDigest()} {
			if !strings.Contains(rec.Body.String(), d.String()) {
				t.Errorf("%s is not named in %s", d, rec.Body)
			}
		}
		for _, body := range [][]byte{im.config, im.layer} {
			if err := a.cache.Put(manifest.DigestOf(body), bytes.NewReader(body), int64(len(body))); err != nil {
				t.Fatal(err)
			}
			a.wantCode(a.send("HEAD", "/v2/own/app/blobs/"+manifest.DigestOf(body).String(), nil), 200, "") // so it is not sent
		}
		stats := a.bucket.count("STAT")
		a.wantCode(a.send("PUT", "/v2/own/app/manifests/v2", im.body), 201, "")
		b.pull("own/app:v2", im)
		a.wantCode(a.send("PUT", "/v2/own/app/manifests/v3", im.body), 201, "")
		if n := a.bucket.count("STAT") - stats; n != 2 {
			t.Errorf("%d looks for two blobs", n)
		}
	})
}

// Deletes of manifests wait for each other, and for other hosts, without a push having to
// wait for them.
func TestManyDeletesOfManifestsDoNotHoldUpAPush(t *testing.T) {
	within(t, func(w *world) {
		const deletes = 4 * maxRemovals
		var images []image
		for i := range deletes {
			images = append(images, w.push("own/app:v1", fmt.Sprint("image ", i)))
		}
		next := newImage(t, "next")
		w.upload("own/app", next)
		var mu sync.Mutex // guards at and most
		at, most := 0, 0
		w.bucket.on("REMOVEMANIFEST", func(context.Context) error {
			mu.Lock()
			at++
			most = max(most, at)
			mu.Unlock()
			time.Sleep(600 * time.Millisecond)
			mu.Lock()
			at--
			mu.Unlock()
			return nil
		})
		codes := make(chan int, deletes)
		for _, im := range images {
			go func() { codes <- w.send("DELETE", "/v2/own/app/manifests/"+im.d.String(), nil).Code }()
		}
		synctest.Wait()
		asked := time.Now()
		w.wantCode(w.send("PUT", "/v2/own/app/manifests/v2", next.body), 201, "")
		w.wantCode(w.send("DELETE", "/v2/own/app/manifests/v2", nil), 202, "")
		if took := time.Since(asked); took > 0 {
			t.Errorf("a push waited for %v", took)
		}
		for range deletes {
			if code := <-codes; code != 202 {
				t.Errorf("a delete got %d", code)
			}
		}
		if most != maxRemovals {
			t.Errorf("%d deletes at once", most)
		}
	})
}

// A question about a tag that is on its way when a push of it fails here is asked again:
// what the tag stands for nobody knows then but the bucket.
func TestAnAnswerThatAFailedPushOvertookIsAskedForAgain(t *testing.T) {
	for _, known := range []bool{false, true} {
		two(t, func(a, b *world) {
			if known {
				a.mustGet("own/app:v1", a.push("own/app:v1", "old"))
			}
			now, next := b.push("own/app:v1", "now"), newImage(t, "next")
			a.upload("own/app", next)
			gate := make(chan struct{})
			a.bucket.on("TAG", func(context.Context) error {
				<-gate
				return nil
			})
			a.bucket.fail("PUTTAG", errOutage)
			done := make(chan struct{})
			go func() {
				defer close(done)
				a.mustGet("own/app:v1", now)
			}()
			synctest.Wait()
			time.Sleep(time.Millisecond)
			a.wantCode(a.send("PUT", "/v2/own/app/manifests/v1", next.body), 503, "UNAVAILABLE")
			close(gate)
			<-done
		})
	}
}
