package registryd

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hostlocal/manifest"
)

// checks has the world check of a pushed manifest what r says.
func checks(r References) func(*world) { return func(w *world) { w.opt.References = r } }

// indexOf is an index of one image.
func indexOf(im image) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		manifest.OCIIndex, manifest.OCIManifest, im.d, len(im.body))
}

func TestAnImageIsTakenWithoutItsLayersIfNothingIsChecked(t *testing.T) {
	two(t, func(a, b *world) {
		im := a.bucket.push(t, "own/other:v1", "one")
		a.mustGet("own/other:v1", im) // all of it is in the bucket, and on this disk
		a.pull("own/other:v1", im)
		a.wantCode(a.send("PUT", "/v2/own/app/manifests/v1", im.body), 201, "")
		// Also where nobody can look whether it is there.
		a.bucket.fail("LAYERLINK", errOutage)
		a.wantCode(a.send("GET", "/v2/own/app/blobs/"+im.layerDigest().String(), nil), 503, "UNAVAILABLE")
		a.bucket.fail("LAYERLINK", nil)
		for _, w := range []*world{a, b} {
			w.mustGet("own/app:v1", im)
			// To name a digest gives no right to it.
			for _, method := range []string{"HEAD", "GET"} {
				w.wantCode(w.send(method, "/v2/own/app/blobs/"+im.layerDigest().String(), nil), 404, "")
			}
			w.wantCode(w.send("GET", "/v2/own/app/blobs/"+im.layerDigest().String(), nil), 404, "BLOB_UNKNOWN")
		}
		a.restart()
		a.mustGet("own/app:v1", im)
		a.wantCode(a.send("GET", "/v2/own/app/blobs/"+im.layerDigest().String(), nil), 404, "BLOB_UNKNOWN")
		// What was missing may come later, and through another host.
		b.upload("own/app", im)
		for _, w := range []*world{a, b} {
			w.pull("own/app:v1", im)
		}
	}, checks(ReferencesNone))
}

func TestAMissingLayerIsNoneOfTheImagesThatArePushedNext(t *testing.T) {
	within(t, func(w *world) {
		im := newImage(t, "one")
		w.wantCode(w.send("PUT", "/v2/own/app/manifests/v1", im.body), 201, "")
		w.opt.References = ReferencesImages
		w.restart()
		w.mustGet("own/app:v1", im)
		// A manifest that names it is no proof to one that asks for it.
		w.wantCode(w.send("PUT", "/v2/own/app/manifests/v2", im.body), 400, "MANIFEST_BLOB_UNKNOWN")
		w.upload("own/app", im)
		w.wantCode(w.send("PUT", "/v2/own/app/manifests/v2", im.body), 201, "")
	}, checks(ReferencesNone))
}

func TestAnIndexComesAfterItsImagesIfAllIsChecked(t *testing.T) {
	two(t, func(a, b *world) {
		im := newImage(t, "one")
		index := indexOf(im)
		rec := a.send("PUT", "/v2/own/app/manifests/all", index)
		a.wantCode(rec, 400, "MANIFEST_BLOB_UNKNOWN")
		if !strings.Contains(rec.Body.String(), im.d.String()) {
			t.Errorf("%s is not named in %s", im.d, rec.Body)
		}
		a.upload("own/app", im) // its blobs are not it
		a.wantCode(a.send("PUT", "/v2/own/app/manifests/all", index), 400, "MANIFEST_BLOB_UNKNOWN")
		b.push("own/app:v1", "one") // through another host
		a.wantCode(a.send("PUT", "/v2/own/app/manifests/all", index), 201, "")
	}, checks(ReferencesAll))
}

// What another host has pushed lately, or this one before it was restarted, costs one look a
// blob: a link is a word on the bytes, for as long as it is young.
func TestAYoungLinkIsAWordOnItsBytes(t *testing.T) {
	two(t, func(a, b *world) {
		looks := func(w *world) (links, bytes int) { return w.bucket.count("LAYERLINK"), w.bucket.count("STAT") }
		put := func(w *world, body []byte, links, stats int) {
			t.Helper()
			l, s := looks(w)
			w.wantCode(w.send("PUT", "/v2/own/app/manifests/v1", body), 201, "")
			if gotLinks, gotStats := looks(w); gotLinks-l != links || gotStats-s != stats {
				t.Errorf("%d looks at links, want %d; %d at bytes, want %d", gotLinks-l, links, gotStats-s, stats)
			}
		}
		im := newImage(t, "one")
		a.upload("own/app", im)
		time.Sleep(referenceTTL - time.Minute)
		put(b, im.body, 2, 0)
		put(b, im.body, 0, 0)
		// A restarted host has only the links to go by, whoever asks about them first.
		a.restart()
		a.wantCode(a.send("HEAD", "/v2/own/app/blobs/"+im.layerDigest().String(), nil), 200, "")
		put(a, im.body, 1, 0)
		// That a link was seen makes it no younger.
		time.Sleep(time.Minute)
		put(b, im.body, 0, 2)
		put(b, im.body, 0, 0)
		b.restart()
		put(b, im.body, 2, 2)
		// One of which the bucket does not say how old it is may be of any age.
		old := a.bucket.push(t, "own/app:old", "two")
		put(b, old.body, 2, 2)
	})
}
