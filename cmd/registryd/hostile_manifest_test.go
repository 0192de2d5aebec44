package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

// indexOf is an index that lists the digests.
func indexOf(list ...manifest.Digest) []byte {
	var b bytes.Buffer
	b.WriteString(`{"schemaVersion":2,"mediaType":"` + manifest.OCIIndex + `","manifests":[`)
	for i, d := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"digest":"%s","size":1}`, d)
	}
	b.WriteString("]}")
	return b.Bytes()
}

// repeated is d so often.
func repeated(d manifest.Digest, times int) []manifest.Digest {
	list := make([]manifest.Digest, times)
	for i := range list {
		list[i] = d
	}
	return list
}

// Manifests of 10 MiB, and one without end, asked for by many at once: errors, and
// memory for what is read of them only.
func TestHugeManifestsAreRefusedInLittleMemory(t *testing.T) {
	t.Parallel()
	const size, tags, clients = 10 << 20, 8, 5
	h, p := newProgram(t)
	image := h.image(300)
	h.pull(image.Name())
	before := p.residentMemory(t)
	body := []byte(strings.Replace(string(image.Body), "{", `{"annotations":{"filler":"`+strings.Repeat("x", size)+`"},`, 1))
	for i := range tags {
		h.up.AddManifest("library/huge", fmt.Sprint("v", i), image.MediaType, body)
	}
	h.up.AddManifest("library/huge", "endless", image.MediaType, image.Body)
	h.up.Fault(hubtest.And(hubtest.Ref("endless"), hubtest.Of(hubtest.GetManifest)), hubtest.Endless())
	h.up.Fault(hubtest.And(hubtest.Ref("endless"), hubtest.Of(hubtest.HeadManifest)), hubtest.NoHead())

	refs := []string{manifest.DigestOf(body).String(), "endless"}
	for i := range tags {
		refs = append(refs, fmt.Sprint("v", i))
	}
	var all errgroup.Group
	for _, ref := range refs {
		for range clients {
			all.Go(func() error {
				a, err := h.try(http.MethodGet, "/v2/library/huge/manifests/"+ref)
				if err != nil {
					return err
				}
				h.wantError(a, http.StatusBadGateway, http.StatusServiceUnavailable)
				if a.took > firstError {
					h.Errorf("the error took %v", a.took)
				}
				return nil
			})
		}
	}
	check(t, all.Wait())
	h.pull(image.Name())
	// Eleven manifests are read up to 4 MiB each, and garbage is as much again; the
	// race detector multiplies.
	most := int64(2 * (tags + 3) * manifest.MaxSize)
	if underRace {
		most *= 4
	}
	if grown := p.residentMemory(t) - before; grown > most {
		t.Errorf("%d manifests of %d MiB took %d MiB of memory, want at most %d", len(refs), size>>20, grown>>20, most>>20)
	}
}

// Indexes below indexes are served as what they are: bytes. Whoever looks into them
// here does so in bounds.
func TestDeepAndWideIndexesDelayNobody(t *testing.T) {
	t.Parallel()
	const ttl, deep, wide = time.Second, 100, 8 << 10
	h := withTTL(t, ttl)
	image := h.image(300)
	get := func(d manifest.Digest, tag string, body []byte) manifest.Digest {
		t.Helper()
		ref := tag
		if tag == "" {
			ref = d.String()
		}
		h.await("manifest "+ref, func() bool { // of a tag, what it stands for now
			a := h.ask(http.MethodGet, "/v2/library/app/manifests/"+ref)
			return a.StatusCode == http.StatusOK && bytes.Equal(a.body, body)
		})
		return d
	}
	add := func(tag string, body []byte) manifest.Digest {
		return get(h.up.AddManifest("library/app", tag, manifest.OCIIndex, body), tag, body)
	}
	down := get(image.Digest, "", image.Body)
	for range deep {
		down = add("", indexOf(down))
	}
	broad := add("", indexOf(repeated(image.Digest, wide)...))
	broader := indexOf(repeated(broad, wide)...)
	first := add("evil", broader)
	time.Sleep(ttl)
	second := indexOf(append(repeated(first, wide/2), down)...)
	add("evil", second) // it was another index before, and neither is whole

	h.up.Down()
	time.Sleep(ttl)
	a := h.ask(http.MethodHead, "/v2/library/app/manifests/evil")
	if a.StatusCode != http.StatusOK || a.Header.Get("Warning") == "" || a.took > firstAnswer {
		t.Errorf("a tag that stands for 2^25 images: %s, %q, after %v", a.Status, a.Header.Get("Warning"), a.took)
	}
	h.up.Up()
	h.restart()
	watch := startWatch()
	h.pull(image.Name())
	if took := watch.took(); took > firstAnswer {
		t.Errorf("after a restart a pull beside them took %v", took)
	}
}

// An upstream that answers each question with the same index makes a circle; by
// digest nobody can, and so it is an upstream that lies.
func TestCyclicIndexIsRefusedAtItsFirstChild(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	child := manifest.DigestOf([]byte("anything"))
	body := indexOf(child)
	d := h.up.AddManifest("library/circle", "v1", manifest.OCIIndex, body)
	h.stop()
	liar := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", manifest.OCIIndex)
		w.Write(body)
	})}
	address := serveOn(t, &liar)
	h.reconfigure(h.up.URL, "http://"+address)
	h.start()
	a := h.ask(http.MethodGet, "/v2/library/circle/manifests/v1")
	if a.StatusCode != http.StatusOK || a.Header.Get("Docker-Content-Digest") != d.String() {
		t.Errorf("%s: %s", a.Status, a.body)
	}
	h.wantError(h.ask(http.MethodGet, "/v2/library/circle/manifests/"+child.String()), http.StatusBadGateway, http.StatusServiceUnavailable)
	h.wantNothingKept(child)
}
