package registryd

import (
	"context"
	"testing"
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
