package registryd

import (
	"fmt"
	"strings"
	"testing"

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
		a.bucket.fail("HASLAYER", errOutage)
		a.wantCode(a.send("GET", "/v2/own/app/blobs/"+im.layerDigest().String(), nil), 503, "UNAVAILABLE")
		a.bucket.fail("HASLAYER", nil)
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
