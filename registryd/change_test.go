package registryd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream"
)

// beside starts another host on the world's bucket and upstreams; the test's bubble
// ends it.
func (w *world) beside() *world {
	w.t.Helper()
	b := &world{t: w.t, dir: w.t.TempDir(), hub: w.hub, other: w.other, bucket: w.bucket, opt: w.opt}
	b.start()
	return b
}

// upload puts the blobs of an image into an own repository, as uploads do.
func (w *world) upload(repo string, im image) {
	w.t.Helper()
	for _, b := range [][]byte{im.config, im.layer} {
		d := manifest.DigestOf(b)
		if err := w.bucket.PutBlob(w.t.Context(), d, int64(len(b)), bytes.NewReader(b)); err != nil {
			w.t.Fatal(err)
		}
		if err := w.bucket.LinkLayer(w.t.Context(), repo, d); err != nil {
			w.t.Fatal(err)
		}
		w.g.named.saw(repo, d, int64(len(b)), time.Now())
		w.g.named.stored(repo, d, time.Now())
	}
}

// send sends a request to the API, from this host.
func (w *world) send(method, path string, body []byte, headers ...string) *httptest.ResponseRecorder {
	w.t.Helper()
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req := httptest.NewRequest(method, path, r)
	if body == nil {
		req.Body = http.NoBody
	}
	req.Host = "127.0.0.1:5000"
	req = req.WithContext(context.WithValue(w.t.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})))
	for _, kv := range headers {
		k, v, _ := strings.Cut(kv, ": ")
		req.Header.Add(k, v)
	}
	rec := httptest.NewRecorder()
	NewHandler(w.g, HandlerOptions{Push: PushLoopback}).ServeHTTP(rec, req)
	return rec
}

// wantCode demands a status, and an error's code if one is said.
func (w *world) wantCode(rec *httptest.ResponseRecorder, status int, code string) {
	w.t.Helper()
	if rec.Code != status || code != "" && !strings.Contains(rec.Body.String(), `"code":"`+code+`"`) {
		w.t.Fatalf("%d %.300s, want %d %s", rec.Code, rec.Body, status, code)
	}
}

// push pushes an image to "team/app:v1".
func (w *world) push(name, seed string) image {
	w.t.Helper()
	im := newImage(w.t, seed)
	repo, tag, _ := strings.Cut(name, ":")
	w.upload(repo, im)
	rec := w.send("PUT", "/v2/"+repo+"/manifests/"+tag, im.body, "Content-Type: "+manifest.OCIManifest)
	w.wantCode(rec, 201, "")
	return im
}

// two runs f with two hosts on one bucket.
func two(t *testing.T, f func(a, b *world), opts ...func(*world)) {
	within(t, func(a *world) {
		b := a.beside()
		defer b.stop()
		f(a, b)
	}, opts...)
}

func TestAPushIsSeenEverywhereAtOnce(t *testing.T) {
	two(t, func(a, b *world) {
		for _, repo := range []string{"own/app", "team/app"} {
			_, err := b.get(repo + ":v1") // what b knows of it now must not count
			b.wantMiss(err)
			im := a.push(repo+":v1", "one "+repo)
			a.mustGet(repo+":v1", im)
			b.pull(repo+":v1", im)
			two := a.push(repo+":v1", "two "+repo)
			b.pull(repo+":v1", two)
			a.pull(repo+":v1", two)
		}
	})
}

func TestAPushedManifestAnswersWithItsDigestAndPlace(t *testing.T) {
	within(t, func(w *world) {
		im := newImage(t, "one")
		w.upload("own/app", im)
		calls := w.bucket.count("")
		rec := w.send("PUT", "/v2/own/app/manifests/v1", im.body, "Content-Type: "+manifest.OCIManifest)
		w.wantCode(rec, 201, "")
		h := rec.Header()
		if h.Get("Location") != "/v2/own/app/manifests/"+im.d.String() || h.Get("Docker-Content-Digest") != im.d.String() || h.Get("OCI-Subject") != "" {
			t.Errorf("headers %v", h)
		}
		if n := w.bucket.count("") - calls; n != 2 { // PutManifest, PutTag: two exchanges each
			t.Errorf("%d calls: %q", n, w.bucket.seen()[calls:])
		}
		before := w.bucket.count("MANIFEST")
		a := w.mustGet("own/app:v1", im)
		if a.Source != SourceDisk || w.bucket.count("MANIFEST") != before {
			t.Errorf("source %s", a.Source)
		}
	})
}

func TestABlobThatIsNotInTheRepositoryIsNamed(t *testing.T) {
	within(t, func(w *world) {
		im := newImage(t, "one")
		w.upload("own/other", im)
		rec := w.send("PUT", "/v2/own/app/manifests/v1", im.body)
		w.wantCode(rec, 400, "MANIFEST_BLOB_UNKNOWN")
		for _, d := range []manifest.Digest{im.configDigest(), im.layerDigest()} {
			if !strings.Contains(rec.Body.String(), d.String()) {
				t.Errorf("%s is not named in %s", d, rec.Body)
			}
		}
		if w.bucket.count("PUTMANIFEST")+w.bucket.count("PUTTAG") != 0 {
			t.Error("written all the same")
		}
	})
}

func TestAManifestThatContradictsItselfIsRefused(t *testing.T) {
	within(t, func(w *world) {
		im := newImage(t, "one")
		w.upload("own/app", im)
		other := manifest.DigestOf([]byte("other"))
		for _, c := range []struct {
			path, contentType, body, code string
			status                        int
		}{
			{"v1", manifest.DockerManifest, string(im.body), "MANIFEST_INVALID", 400},
			{"v1", "nonsense;;", string(im.body), "MANIFEST_INVALID", 400},
			{"v1", manifest.OCIManifest, "{", "MANIFEST_INVALID", 400},
			{"v1", "", "", "MANIFEST_INVALID", 400},
			{"v1", "", `{"schemaVersion":2,"manifests":[],"layers":[]}`, "MANIFEST_INVALID", 400},
			{other.String(), manifest.OCIManifest, string(im.body), "DIGEST_INVALID", 400},
			{"v1?digest=" + other.String(), manifest.OCIManifest, string(im.body), "DIGEST_INVALID", 400},
			{"v1?digest=x", manifest.OCIManifest, string(im.body), "DIGEST_INVALID", 400},
			{"v1?tag=v2", manifest.OCIManifest, string(im.body), "MANIFEST_INVALID", 400},
			{im.d.String() + "?tag=-", manifest.OCIManifest, string(im.body), "TAG_INVALID", 400},
			{im.d.String() + "?" + strings.Repeat("tag=a&", 11), manifest.OCIManifest, string(im.body), "MANIFEST_INVALID", 414},
			{"v1", "", strings.Repeat(" ", manifest.MaxSize+1), "SIZE_INVALID", 413},
		} {
			var headers []string
			if c.contentType != "" {
				headers = []string{"Content-Type: " + c.contentType}
			}
			w.wantCode(w.send("PUT", "/v2/own/app/manifests/"+c.path, []byte(c.body), headers...), c.status, c.code)
		}
		if len(w.bucket.seen()) != 4 { // the uploads
			t.Errorf("the bucket was asked: %q", w.bucket.seen())
		}
	})
}

func TestTagsGoWithAManifestThatIsPushedByDigest(t *testing.T) {
	two(t, func(a, b *world) {
		im := newImage(t, "one")
		a.upload("own/app", im)
		rec := a.send("PUT", "/v2/own/app/manifests/"+im.d.String()+"?tag=v1&tag=latest&tag=v1", im.body)
		a.wantCode(rec, 201, "")
		if got := rec.Header().Values("OCI-Tag"); len(got) != 2 || got[0] != "v1" || got[1] != "latest" {
			t.Errorf("OCI-Tag %q", got)
		}
		b.mustGet("own/app:latest", im)
		a.mustGet("own/app:v1", im)
	})
}

func TestSha512ManifestsArePushed(t *testing.T) {
	two(t, func(a, b *world) {
		im := newImage(t, "one")
		a.upload("own/app", im)
		hash := manifest.SHA512.New()
		hash.Write(im.body)
		im.d = manifest.SHA512.Sum(hash)
		a.wantCode(a.send("PUT", "/v2/own/app/manifests/"+im.d.String()+"?tag=v1", im.body), 201, "")
		b.mustGet("own/app@"+im.d.String(), im)
		b.mustGet("own/app:v1", im)
		a.wantCode(a.send("PUT", "/v2/own/app/manifests/v2?digest="+im.d.String(), im.body), 201, "")
		b.mustGet("own/app:v2", im)
	})
}

func TestAnIndexMayLackItsImages(t *testing.T) {
	within(t, func(w *world) {
		secret := w.bucket.push(t, "own/secret:v1", "secret")
		w.mustGet("own/secret:v1", secret) // it is on this disk
		body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
			manifest.OCIIndex, manifest.OCIManifest, secret.d, len(secret.body))
		w.wantCode(w.send("PUT", "/v2/own/app/manifests/v1", body), 201, "")
		if _, err := w.get("own/app:v1"); err != nil {
			t.Fatal(err)
		}
		// To name a digest gives no right to it.
		_, err := w.get("own/app@" + secret.d.String())
		w.wantMiss(err)
		_, err = w.blob("own/app", secret.d)
		w.wantMiss(err)
		w.restart()
		_, err = w.get("own/app@" + secret.d.String())
		w.wantMiss(err)
	})
}

func TestForeignLayersMayBeMissing(t *testing.T) {
	within(t, func(w *world) {
		im := newImage(t, "one")
		w.upload("own/app", im)
		foreign := manifest.DigestOf([]byte("windows"))
		body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":%q,"size":7,"urls":["https://example.com/x"]}]}`,
			manifest.OCIManifest, im.configDigest(), len(im.config), foreign)
		w.wantCode(w.send("PUT", "/v2/own/app/manifests/v1", body), 201, "")
		_, err := w.blob("own/app", foreign)
		w.wantMiss(err)
	})
}

// artifact makes a signature of subject, in the form of cosign, notation or oras.
func artifact(t *testing.T, im image, subject manifest.Descriptor, artifactType string) []byte {
	m := map[string]any{"schemaVersion": 2, "mediaType": manifest.OCIManifest,
		"config":      map[string]any{"mediaType": "application/vnd.oci.empty.v1+json", "digest": im.configDigest(), "size": len(im.config), "data": "e30="},
		"layers":      []any{map[string]any{"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": im.layerDigest(), "size": len(im.layer)}},
		"subject":     map[string]any{"mediaType": subject.MediaType, "digest": subject.Digest, "size": subject.Size},
		"annotations": map[string]string{"who": artifactType}, "x-custom": []int{1}}
	if artifactType != "" {
		m["artifactType"] = artifactType
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// referrersOf asks the API, and returns what it lists.
func (w *world) referrers(path string) ([]manifest.Descriptor, *httptest.ResponseRecorder) {
	w.t.Helper()
	rec := w.send("GET", path, nil)
	w.wantCode(rec, 200, "")
	var index struct {
		MediaType string                `json:"mediaType"`
		Manifests []manifest.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &index); err != nil || index.MediaType != manifest.OCIIndex || rec.Header().Get("Content-Type") != manifest.OCIIndex {
		w.t.Fatalf("%v: %s", err, rec.Body)
	}
	return index.Manifests, rec
}

func TestReferrersOfOwnImagesAreListed(t *testing.T) {
	two(t, func(a, b *world) {
		im := newImage(t, "one")
		a.upload("own/app", im)
		subject := manifest.Descriptor{MediaType: manifest.OCIManifest, Digest: im.d, Size: int64(len(im.body))}
		path := "/v2/own/app/referrers/" + im.d.String()
		if list, rec := b.referrers(path); len(list) != 0 || !strings.Contains(rec.Body.String(), `"manifests":[]`) {
			t.Errorf("%s", rec.Body)
		}
		for _, at := range []string{"application/a", "application/b", ""} { // the subject is not there yet
			rec := a.send("PUT", "/v2/own/app/manifests/"+manifest.DigestOf(artifact(t, im, subject, at)).String(), artifact(t, im, subject, at))
			a.wantCode(rec, 201, "")
			if rec.Header().Get("OCI-Subject") != im.d.String() {
				t.Errorf("OCI-Subject %q", rec.Header().Get("OCI-Subject"))
			}
		}
		if list, rec := b.referrers(path); len(list) != 3 || rec.Header().Get("OCI-Filters-Applied") != "" || rec.Header().Get("X-Registryd-Source") != SourceStore {
			t.Errorf("%d, %v", len(list), rec.Header())
		}
		list, rec := b.referrers(path + "?artifactType=application%2Fb")
		if len(list) != 1 || list[0].Annotations["who"] != "application/b" || rec.Header().Get("OCI-Filters-Applied") != "artifactType" {
			t.Errorf("%v, %v", list, rec.Header())
		}
		if list, _ := b.referrers(path + "?artifactType=application%2Fvnd.oci.empty.v1%2Bjson"); len(list) != 1 {
			t.Errorf("an artifact without a type has that of its config: %v", list)
		}
		a.wantCode(a.send("DELETE", "/v2/own/app/manifests/"+list[0].Digest.String(), nil), 202, "")
		if list, _ := b.referrers(path); len(list) != 2 {
			t.Errorf("%d after a delete", len(list))
		}
	})
}

func TestALongListOfReferrersHasPages(t *testing.T) {
	var list []manifest.Descriptor
	for i := range 50 {
		d := manifest.Descriptor{MediaType: manifest.OCIManifest, Digest: manifest.DigestOf([]byte{byte(i)}), Size: 1, ArtifactType: "a"}
		list = append(list, d, d)
	}
	seen, last := map[manifest.Digest]bool{}, ""
	for pages := 0; ; pages++ {
		body, next, err := referrersPage(list, "a", last, 2000)
		if err != nil || len(body) > 2000 || pages > 50 {
			t.Fatal(err, len(body), pages)
		}
		var index struct{ Manifests []manifest.Descriptor }
		if err := json.Unmarshal(body, &index); err != nil {
			t.Fatal(err)
		}
		for _, d := range index.Manifests {
			if seen[d.Digest] {
				t.Fatal("twice")
			}
			seen[d.Digest] = true
		}
		if last = next; next == "" {
			break
		}
	}
	if len(seen) != 50 {
		t.Errorf("%d of 50", len(seen))
	}
}

func TestWhatIsDeletedIsGoneHereAtOnceAndElsewhereSoon(t *testing.T) {
	two(t, func(a, b *world) {
		im := a.push("own/app:v1", "one")
		a.pull("own/app:v1", im)
		b.pull("own/app:v1", im)
		a.wantCode(a.send("DELETE", "/v2/own/app/blobs/"+im.layerDigest().String(), nil), 202, "")
		_, err := a.blob("own/app", im.layerDigest())
		a.wantMiss(err)
		a.mustGet("own/app:v1", im) // that a manifest names it does not bring it back
		_, err = a.blob("own/app", im.layerDigest())
		a.wantMiss(err)
		a.wantCode(a.send("DELETE", "/v2/own/app/blobs/"+im.layerDigest().String(), nil), 404, "BLOB_UNKNOWN")

		a.wantCode(a.send("DELETE", "/v2/own/app/manifests/"+im.d.String(), nil), 202, "")
		for _, name := range []string{"own/app:v1", "own/app@" + im.d.String()} {
			_, err := a.get(name)
			a.wantMiss(err)
		}
		a.wantCode(a.send("DELETE", "/v2/own/app/manifests/"+im.d.String(), nil), 404, "MANIFEST_UNKNOWN")
		a.wantCode(a.send("DELETE", "/v2/own/app/manifests/v1", nil), 404, "MANIFEST_UNKNOWN")
		_, err = b.get("own/app:v1")
		b.wantMiss(err)
		time.Sleep(linkTTL)
		_, err = b.get("own/app@" + im.d.String())
		b.wantMiss(err)
		_, err = b.blob("own/app", im.layerDigest())
		b.wantMiss(err)
		for _, w := range []*world{a, b} {
			w.bucket.fail("", errOutage)
			w.restart() // nor does the disk
			_, err := w.get("own/app:v1")
			w.wantOutage(err)
			_, err = w.get("own/app@" + im.d.String())
			w.wantOutage(err)
			w.bucket.heal()
		}
		again := a.push("own/app:v1", "one")
		b.pull("own/app:v1", again)
		a.pull("own/app:v1", again)
	})
}

func TestALinkIsLookedAtOnceATTL(t *testing.T) {
	within(t, func(w *world) {
		im := w.bucket.push(t, "own/app:v1", "one")
		w.pull("own/app:v1", im)
		time.Sleep(linkTTL)
		before := w.bucket.count("HASMANIFEST")
		for range 10 {
			w.mustGet("own/app@"+im.d.String(), im)
		}
		w.wantCalls(&w.bucket.calls, "HASMANIFEST", before+1)
		before = w.bucket.count("LAYERLINK")
		for range 10 {
			if _, err := w.blob("own/app", im.layerDigest()); err != nil {
				t.Fatal(err)
			}
		}
		w.wantCalls(&w.bucket.calls, "LAYERLINK", before+1)
		// An outage serves what is known, and does not cost each request a wait.
		time.Sleep(linkTTL)
		w.bucket.stall("")
		w.took(2*tagLimit, func() {
			for range 10 {
				w.mustGet("own/app@"+im.d.String(), im)
				if _, err := w.blob("own/app", im.layerDigest()); err != nil {
					t.Fatal(err)
				}
			}
		})
		w.bucket.heal()
		time.Sleep(flightLimit)
		synctest.Wait()
	})
}

func TestAFaultAtAnyStepOfAPushAcknowledgesNothing(t *testing.T) {
	two(t, func(a, b *world) {
		old := a.push("own/app:v1", "old")
		im := newImage(t, "new")
		a.upload("own/app", im)
		subject := manifest.Descriptor{MediaType: manifest.OCIManifest, Digest: old.d, Size: 1}
		body := artifact(t, im, subject, "application/a")
		d := manifest.DigestOf(body)
		for _, op := range []string{"PUTMANIFEST", "PUTREFERRER", "PUTTAG"} {
			a.bucket.fail(op, errOutage)
			a.wantCode(a.send("PUT", "/v2/own/app/manifests/v1", body), 503, "UNAVAILABLE")
			a.bucket.heal()
			b.mustGet("own/app:v1", old)
			a.mustGet("own/app:v1", old)
		}
		a.bucket.fail("PUTMANIFEST", fmt.Errorf("bucket: %w", fs.ErrPermission))
		a.wantCode(a.send("PUT", "/v2/own/app/manifests/v1", body), 403, "DENIED")
		a.bucket.heal()
		a.wantCode(a.send("PUT", "/v2/own/app/manifests/v1", body), 201, "")
		b.mustGet("own/app:v1", image{d: d})
	})
}

func TestTheDiskCannotFailAPush(t *testing.T) {
	within(t, func(w *world) {
		w.upload("own/app", newImage(t, "one"))
		im := newImage(t, "one")
		blobs := filepath.Join(w.dir, "blobs")
		if err := errors.Join(os.RemoveAll(blobs), os.WriteFile(blobs, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		w.wantCode(w.send("PUT", "/v2/own/app/manifests/v1", im.body), 201, "")
		w.mustGet("own/app:v1", im)
	})
}

func TestAHeadBeforeAPushNeedsNoUpstream(t *testing.T) {
	within(t, func(w *world) {
		w.hub.stall("")
		d := manifest.DigestOf([]byte("x"))
		for _, path := range []string{"blobs/" + d.String(), "manifests/v1", "manifests/" + d.String()} {
			w.took(tagLimit+troubledPatience, func() {
				w.wantCode(w.send("HEAD", "/v2/team/app/"+path, nil), 404, "")
			})
		}
		w.took(time.Second, func() {
			w.wantCode(w.send("HEAD", "/v2/team/app/blobs/"+manifest.DigestOf([]byte("y")).String(), nil), 404, "")
		})
		time.Sleep(flightLimit) // who asked in the stall has given up
		w.hub.fail("", errOutage)
		w.wantCode(w.send("GET", "/v2/team/app/manifests/v1", nil), 503, "")
		// Who pushes to a name that takes none has to get as far as to hear that.
		blob := "/blobs/" + d.String()
		one, several := "Accept: "+manifest.OCIManifest, "Accept: "+manifest.OCIManifest+", "+manifest.OCIIndex
		for _, name := range []string{"library/app", "app", "ghcr.io/team/app"} {
			w.other.fail("", errOutage)
			w.wantCode(w.send("HEAD", "/v2/"+name+blob, nil), 404, "")
			w.wantCode(w.send("HEAD", "/v2/"+name+"/manifests/v1", nil, one), 404, "")
			w.wantCode(w.send("HEAD", "/v2/"+name+"/manifests/"+d.String(), nil, one+", */*"), 404, "")
			w.wantCode(w.send("HEAD", "/v2/"+name+"/manifests/v1", nil, several), 404, "")
			// Who pulls hears of the outage.
			w.wantCode(w.send("HEAD", "/v2/"+name+"/manifests/v1", nil), 503, "")
			w.wantCode(w.send("HEAD", "/v2/"+name+"/manifests/v1", nil, several+", */*"), 503, "")
			w.wantCode(w.send("HEAD", "/v2/"+name+"/manifests/v1?ns=docker.io", nil, one), 503, "")
			w.wantCode(w.send("GET", "/v2/"+name+blob, nil), 503, "")
			w.wantCode(w.send("GET", "/v2/"+name+"/manifests/v1", nil, one), 503, "")
		}
		im := w.push("team/app:v1", "one")
		w.pull("team/app:v1", im)
	})
}

func TestReferrersOfMirroredImages(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(t, "library/app:v1", "one")
		path := "/v2/library/app/referrers/" + im.d.String()
		if list, rec := w.referrers(path); len(list) != 0 || rec.Header().Get("X-Registryd-Source") != SourceUpstream {
			t.Errorf("%v", rec.Header())
		}
		sig := w.hub.push(t, "library/app:sig", "sig")
		index := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"artifactType":"application/a"}]}`,
			manifest.OCIIndex, manifest.OCIManifest, sig.d, len(sig.body))
		w.hub.tags["library/app:sha256-"+im.d.Hex()] = manifest.DigestOf(index)
		w.hub.manifests["library/app@"+manifest.DigestOf(index).String()] = index
		gets := w.hub.count("GET")
		if list, rec := w.referrers(path); len(list) != 0 || rec.Header().Get("X-Registryd-Source") != SourceDisk || w.hub.count("GET") != gets {
			t.Errorf("asked again within the TTL: %v", rec.Header())
		}
		time.Sleep(time.Minute)
		if list, _ := w.referrers(path + "?artifactType=application/a"); len(list) != 1 || list[0].Digest != sig.d {
			t.Errorf("%v", list)
		}
		time.Sleep(time.Minute)
		w.hub.fail("", errOutage)
		if list, rec := w.referrers(path); len(list) != 1 || rec.Header().Get("Warning") == "" {
			t.Errorf("%v %v", list, rec.Header())
		}
	})
}

// A delete that comes while a push is between its manifest and its tag comes before it
// or behind it.
func TestADeleteDuringAPushLeavesNoTagWithoutItsManifest(t *testing.T) {
	for _, op := range []string{"PUTREFERRER", "PUTTAG"} {
		within(t, func(w *world) {
			im := newImage(t, "one")
			w.upload("own/app", im)
			body := im.body
			if op == "PUTREFERRER" {
				body = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/a","digest":%q,"size":%d},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
					manifest.OCIManifest, manifest.DigestOf(im.config), len(im.config), manifest.OCIManifest, im.d, len(im.body))
			}
			d := manifest.DigestOf(body)
			deleted := make(chan int, 1)
			w.bucket.on(op, func(context.Context) error {
				w.bucket.on(op, nil)
				go func() { deleted <- w.send("DELETE", "/v2/own/app/manifests/"+d.String(), nil).Code }()
				time.Sleep(time.Second)
				return nil
			})
			w.wantCode(w.send("PUT", "/v2/own/app/manifests/v1", body, "Content-Type: "+manifest.OCIManifest), 201, "")
			if code := <-deleted; code != 202 {
				t.Fatalf("the delete was answered %d", code)
			}
			w.bucket.data.Lock()
			defer w.bucket.data.Unlock()
			if len(w.bucket.tags) != 0 || len(w.bucket.revisions) != 0 || len(w.bucket.referrers[content{"own/app", im.d}]) != 0 {
				t.Errorf("%s: left are %v, %v, %v", op, w.bucket.tags, w.bucket.revisions, w.bucket.referrers)
			}
		})
	}
}

// A listing is an upstream with the API for referrers, in its repository a/there only.
type listing struct {
	Upstream
	asked []string
}

func (l *listing) Referrers(_ context.Context, repo string, _ manifest.Digest) ([]manifest.Descriptor, error) {
	l.asked = append(l.asked, repo)
	if repo == "a/there" {
		return []manifest.Descriptor{{Digest: someDigest, Size: 1}}, nil
	}
	return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, &upstream.Error{Status: 404, Code: "NOT_FOUND"})
}

func TestAMissingRepositoryDoesNotHideTheReferrersOfOthers(t *testing.T) {
	within(t, func(w *world) {
		up := &listing{Upstream: w.g.origins["docker.io"].up}
		o := newOrigin("listing", up, semaphore.NewWeighted(roomBytes))
		for _, repo := range []string{"a/missing", "a/missing", "a/there"} {
			list, err := o.referrers(w.t.Context(), repo, someDigest)
			if err != nil || (len(list) == 1) != (repo == "a/there") {
				t.Errorf("of %s: %v, %v", repo, list, err)
			}
		}
		if want := []string{"a/missing", "a/there"}; !slices.Equal(up.asked, want) {
			t.Errorf("asked of %q, want %q", up.asked, want)
		}
	})
}

// They come one after another, and take no place of others' changes while they wait.
func TestTwoPushesOfOneTagLeaveNobodyWrong(t *testing.T) {
	within(t, func(w *world) {
		one, two := newImage(t, "one"), newImage(t, "two")
		w.upload("own/app", one)
		w.upload("own/app", two)
		first, gate := true, make(chan struct{})
		w.bucket.on("PUTTAG", func(context.Context) error {
			if first {
				first = false
				<-gate
			}
			return nil
		})
		codes := make(chan int, 2*maxChanges)
		push := func(im image) { codes <- w.send("PUT", "/v2/own/app/manifests/v1", im.body).Code }
		go push(one)
		synctest.Wait()
		for range 2*maxChanges - 1 {
			go push(two)
		}
		synctest.Wait()
		w.wantCode(w.send("PUT", "/v2/own/app/manifests/v2", two.body), 201, "")
		close(gate)
		for range 2 * maxChanges {
			if code := <-codes; code != 201 {
				t.Fatal(code)
			}
		}
		w.mustGet("own/app:v1", two) // it came last
	}, func(w *world) {
		w.opt.Policies = []TagRule{{Match: "own/*", Policy: Policy{TTL, time.Hour}}}
	})
}

func TestAPushIsNotHiddenByAnOlderQuestion(t *testing.T) {
	two(t, func(a, b *world) {
		old := a.push("own/app:v1", "old")
		gate := make(chan struct{})
		var n int
		a.bucket.on("TAG", func(context.Context) error {
			if n++; n == 1 {
				<-gate
			}
			return nil
		})
		_ = old
		got := make(chan Answer, 2)
		ask := func() {
			a, err := b.get("own/app:v1")
			if err != nil {
				t.Error(err)
			}
			got <- a
		}
		go ask()
		synctest.Wait()
		time.Sleep(time.Millisecond)
		im := a.push("own/app:v1", "new")
		go ask()
		synctest.Wait()
		close(gate)
		for range 2 {
			b.wantImage(<-got, im)
		}
	})
}

func TestAManifestBodyIsBoundedInTimeAndMemory(t *testing.T) {
	g, _, _, _ := warmRegistry(t)
	if _, _, err := g.readPush(t.Context(), strings.NewReader("x"), 1<<30); !errors.Is(err, errLargeManifest) {
		t.Errorf("got %v", err)
	}
	zeros := &counted{}
	if _, _, err := g.readPush(t.Context(), zeros, -1); !errors.Is(err, errLargeManifest) || zeros.n.Load() > 2*manifest.MaxSize {
		t.Errorf("got %v after %d bytes", err, zeros.n.Load())
	}
	if _, _, err := g.readPush(t.Context(), strings.NewReader("{}"), 5); err == nil {
		t.Error("a body that is cut is taken for whole")
	}
	body, done, err := g.readPush(t.Context(), bytes.NewReader(make([]byte, manifest.MaxSize)), -1)
	if err != nil || len(body) != manifest.MaxSize {
		t.Fatal(len(body), err)
	}
	_, done2, err := g.readPush(t.Context(), bytes.NewReader(make([]byte, manifest.MaxSize)), manifest.MaxSize)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := g.readPush(ctx, bytes.NewReader(make([]byte, manifest.MaxSize)), manifest.MaxSize); err == nil {
		t.Error("there is room for more than there is")
	}
	_, done3, err := g.readPush(t.Context(), bytes.NewReader(body[:manifest.Small]), manifest.Small)
	if err != nil {
		t.Fatalf("an ordinary manifest waits for large ones: %v", err)
	}
	done()
	done2()
	done3()
	if !g.pushRoom.try(roomShare) || !g.smallPushRoom.try(smallPushes) {
		t.Error("the room was not given back")
	}
	if _, _, err := g.readPush(ctx, strings.NewReader("{}"), 2); err == nil {
		t.Error("there is room for more small ones than there is")
	}
}

// A lastDeadline is a connection's.
type lastDeadline struct{ at time.Time }

func (d *lastDeadline) SetReadDeadline(at time.Time) error {
	if !at.IsZero() {
		d.at = at
	}
	return nil
}

// Memory is held for the body of a manifest as long as its client is not too slow.
func TestAManifestThatTricklesIsEnded(t *testing.T) {
	for pace, want := range map[int]time.Duration{1: pushStall + time.Second, pushPace: 10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			d := &lastDeadline{}
			b := newPushBody(nil, &counted{})
			b.deadline = d
			ended := false
			for time.Since(b.begun) < want && !ended {
				b.Read(make([]byte, pace))
				time.Sleep(time.Second)
				ended = time.Now().After(d.at)
			}
			if ended != (pace == 1) {
				t.Errorf("with %d bytes a second: ended %v after %v", pace, ended, time.Since(b.begun))
			}
		})
	}
}

// counted are zeros without end; a client's transport may read on when it has its answer.
type counted struct{ n atomic.Int64 }

func (c *counted) Read(p []byte) (int, error) {
	clear(p)
	c.n.Add(int64(len(p)))
	return len(p), nil
}
