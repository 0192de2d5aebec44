package registryd

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hostlocal/manifest"
)

// guardedWorld has docker.io asked with credentials, and keeps what is guarded.
func guardedWorld(w *world) {
	w.hub.private = true
	w.opt.GuardFile = filepath.Join(w.dir, "guarded")
}

// index puts an index that lists the images into a hub.
func (h *hub) index(name string, images ...image) image {
	var list []string
	for _, im := range images {
		list = append(list, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, manifest.OCIManifest, im.d, len(im.body)))
	}
	ix := image{body: fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, manifest.OCIIndex, strings.Join(list, ","))}
	ix.d = manifest.DigestOf(ix.body)
	repo, _, _ := strings.Cut(name, ":")
	h.data.Lock()
	defer h.data.Unlock()
	h.tags[name] = ix.d
	h.manifests[repo+"@"+ix.d.String()] = ix.body
	return ix
}

// A registry of somebody else's names in its manifests what a private one has: its
// clients get none of it, whatever it says of what it has, in this process and in the
// next, with and without a bucket.
func TestWhatCameWithCredentialsIsNotServedByAnothersWord(t *testing.T) {
	for name, opt := range map[string]func(*world){"bucket": func(*world) {}, "no bucket": withoutBucket} {
		t.Run(name, func(t *testing.T) {
			within(t, func(w *world) {
				secret := w.hub.push(w.t, "library/secret:v1", "one")
				w.pull("library/secret:v1", secret)
				hidden := w.hub.push(w.t, "library/hidden:v1", "two")
				w.pull("library/hidden:v1", hidden)
				synctest.Wait()

				// It has the manifest, and not the blobs.
				w.other.push(w.t, "x/evil:v1", "one")
				clear(w.other.blobs)
				// It has an index, and not what that lists.
				ix := w.other.index("x/index:v1", hidden)
				try := func() {
					w.t.Helper()
					w.mustGet("ghcr.io/x/evil:v1", secret)
					w.mustGet("ghcr.io/x/index:v1", ix)
					_, err := w.get("ghcr.io/x/index@" + hidden.d.String())
					w.wantMiss(err)
					for _, d := range []manifest.Digest{secret.layerDigest(), secret.configDigest()} {
						if b, err := w.blob("ghcr.io/x/evil", d); err == nil {
							w.t.Fatalf("served %d bytes", len(b))
						}
						if _, source, err := w.g.StatBlob(w.t.Context(), w.repo("ghcr.io/x/evil"), d); err == nil && source != SourceUpstream {
							w.t.Fatalf("%s says that it is here", source)
						}
					}
				}
				try()
				// It says that it has them, and sends others.
				for _, b := range [][]byte{secret.layer, secret.config} {
					w.other.blobs["x/evil@"+manifest.DigestOf(b).String()] = bytes.Repeat([]byte("x"), len(b))
				}
				try()
				w.restart()
				try()
				// The owner's other repositories, and the owner itself, have it.
				w.hub.push(w.t, "library/second:v1", "one")
				blobs := w.hub.count("BLOB")
				w.pull("library/second:v1", secret)
				w.pull("library/secret:v1", secret)
				w.wantCalls(&w.hub.calls, "BLOB", blobs)
			}, guardedWorld, opt)
		})
	}
}

// Whoever has the bytes shows a part of each blob once, and never sends it.
func TestSharedLayersAreShownOnceNotSent(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.pull("library/app:v1", im)
		w.wantCalls(&w.hub.calls, "", 4) // HEAD, GET, two blobs
		w.pull("library/app:v1", im)
		w.wantCalls(&w.hub.calls, "", 4)

		w.other.push(w.t, "x/base:v1", "one")
		w.pull("ghcr.io/x/base:v1", im)
		w.wantCalls(&w.other.calls, "", 4)
		for _, c := range w.other.seen() {
			if strings.HasPrefix(c, "BLOB") && !strings.HasSuffix(c, "+4096") && !strings.HasSuffix(c, fmt.Sprint(" 0+", len(im.config))) {
				w.t.Errorf("asked %s", c)
			}
		}
		w.pull("ghcr.io/x/base:v1", im)
		w.restart()
		w.pull("ghcr.io/x/base:v1", im)
		w.pull("library/app:v1", im)
		w.wantCalls(&w.other.calls, "", 4)
		w.wantCalls(&w.hub.calls, "", 4)
	}, guardedWorld, withoutBucket)
}

// Without credentials nothing is guarded: a manifest's word is enough, as for the
// layers that everybody's images share.
func TestWhatIsPublicCostsNoQuestion(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.pull("library/app:v1", im)
		w.other.push(w.t, "x/base:v1", "one")
		w.pull("ghcr.io/x/base:v1", im)
		w.wantCalls(&w.other.calls, "BLOB", 0)
	}, withoutBucket)
}

// A registry that is asked with credentials itself says that it has a blob before
// anybody else has it, and sends another. When the right one comes it is not its own.
func TestALieAboutABlobIsNoClaimToIt(t *testing.T) {
	within(t, func(w *world) {
		secret := w.hub.push(w.t, "library/secret:v1", "one")
		w.other.push(w.t, "x/evil:v1", "one")
		d := secret.layerDigest()
		w.other.blobs["x/evil@"+d.String()] = bytes.Repeat([]byte("x"), len(secret.layer))
		w.mustGet("ghcr.io/x/evil:v1", secret)
		if _, err := w.blob("ghcr.io/x/evil", d); err == nil {
			w.t.Fatal("wrong bytes were served")
		}
		time.Sleep(time.Hour)
		w.pull("library/secret:v1", secret)
		if _, err := w.blob("ghcr.io/x/evil", d); err == nil {
			w.t.Fatal("served to who lied about it")
		}
		w.pull("library/secret:v1", secret)
	}, guardedWorld, withoutBucket, func(w *world) { w.other.private = true })
}

func TestGuardOutlivesATornLineAndItsOwnCompaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "guarded")
	reopen := func(gd *guard) *guard {
		t.Helper()
		if gd != nil {
			gd.close()
		}
		gd, err := newGuard(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return gd
	}
	one, two := manifest.DigestOf([]byte("one")), manifest.DigestOf([]byte("two"))
	gd := reopen(nil)
	gd.claim("a.test", one)
	gd.claim("b.test", two)
	gd.claim("a.test", two)
	gd.show("c.test", one)
	gd.show("c.test", manifest.DigestOf([]byte("nobody's")))
	check := func() {
		t.Helper()
		for _, c := range []struct {
			host string
			d    manifest.Digest
			open bool
		}{
			{"a.test", one, true}, {"b.test", one, false}, {"c.test", one, true}, {"", one, true},
			{"a.test", two, false}, {"b.test", two, false}, {"a.test", manifest.DigestOf([]byte("nobody's")), true},
		} {
			if open := gd.open(c.host, c.d); open != c.open {
				t.Errorf("%s, %s: open is %v", c.host, c.d, open)
			}
		}
	}
	check()
	gd = reopen(gd)
	check()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("claimed b.test sha256:12")
	f.Close()
	gd = reopen(gd)
	check()
	gd.size = maxGuardFile
	gd.claim("c.test", two) // one line more: the file is written anew
	if gd.size > 1000 {
		t.Errorf("the file has %d bytes", gd.size)
	}
	gd = reopen(gd)
	check()
	gd.close()
}
