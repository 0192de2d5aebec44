package s3store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hostlocal/manifest"
)

// signature makes a manifest that is about subject, n telling it from others.
func signature(subject manifest.Digest, n int) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.example.signature","digest":%q,"size":2},"layers":[],`+
		`"subject":{"mediaType":%q,"digest":%q,"size":3},"annotations":{"n":"%d <&>"}}`,
		manifest.OCIManifest, manifest.DigestOf([]byte("{}")), manifest.OCIManifest, subject, n)
}

// sign makes n manifests about subject, as a push does or, if stock, as a registry
// does that knows no referrers. It returns their digests in the order of lists.
func (h *tester) sign(repo string, subject manifest.Digest, from, n int, stock bool) (ds []manifest.Digest) {
	h.Helper()
	for i := range n {
		body := signature(subject, from+i)
		d := h.push(repo, string(body))
		ds = append(ds, d)
		if stock {
			continue
		}
		m, err := manifest.ParseAs(d, body)
		if err != nil {
			h.Fatal(err)
		}
		if err := h.PutReferrer(h.Context(), repo, subject, m.AsReferrer()); err != nil {
			h.Fatal(err)
		}
	}
	return sorted(ds)
}

func sorted(ds ...[]manifest.Digest) []manifest.Digest {
	all := slices.Concat(ds...)
	slices.SortFunc(all, func(a, b manifest.Digest) int { return strings.Compare(a.String(), b.String()) })
	return all
}

func (h *tester) wantReferrers(repo string, subject manifest.Digest, want []manifest.Digest) {
	h.Helper()
	got, err := h.Referrers(h.Context(), repo, subject)
	if err != nil {
		h.Fatal(err)
	}
	var ds []manifest.Digest
	for _, desc := range got {
		ds = append(ds, desc.Digest)
		if desc.MediaType != manifest.OCIManifest || desc.ArtifactType != "application/vnd.example.signature" || desc.Size < 100 || !strings.HasSuffix(desc.Annotations["n"], " <&>") {
			h.Errorf("described as %+v", desc)
		}
	}
	if !slices.Equal(ds, want) {
		h.Errorf("referrers are %v, want %v", ds, want)
	}
}

// again is another host over the same bucket.
func (h *tester) again() *tester {
	other := over(h.T, h.wire.Bucket)
	other.dir = h.dir
	return other
}

// age has all that is below prefix look as if it was written so long ago.
func (h *tester) age(prefix string, by time.Duration) {
	h.Helper()
	for _, key := range h.below(prefix) {
		name := filepath.Join(h.dir, key)
		info, err := os.Stat(name)
		if err == nil {
			err = os.Chtimes(name, time.Time{}, info.ModTime().Add(-by))
		}
		if err != nil {
			h.Fatal(err)
		}
	}
}

func TestPushedReferrersAreListed(t *testing.T) {
	h := overFolder(t)
	subject := h.push("team/app", "subject", "v1")
	h.wantReferrers("team/app", subject, nil)
	h.wire.count()
	want := h.sign("team/app", subject, 0, 1, false)
	h.wantCalls(map[string]int{"put": 3})
	want = sorted(want, h.sign("team/app", subject, 1, 4, false))
	absent := manifest.DigestOf([]byte("not there"))
	others := h.sign("team/app", absent, 0, 2, false)
	h.wantReferrers("team/app", subject, want)
	h.wantReferrers("team/app", absent, others) // a subject need not be there
	h.wantReferrers("other/app", subject, nil)
	h.wantReferrers("../app", subject, nil)
	h.wire.count()
	h.wantReferrers("team/app", subject, want)
	h.wantCalls(map[string]int{"list": 2})
}

func TestAnotherHostReadsEachDescriptorOnce(t *testing.T) {
	h := overFolder(t)
	subject := h.push("team/app", "subject")
	want := h.sign("team/app", subject, 0, 5, false)
	h.age(reposRoot, 2*slack)
	h.push("team/app", "newest")
	h.wantReferrers("team/app", subject, want) // the marker is as old as the newest
	other := h.again()
	other.wantReferrers("team/app", subject, want)
	// The marker, five descriptors, and the newest once more, after which the lists
	// are read again.
	other.wantCalls(map[string]int{"list": 4, "get": 1 + 5 + 1})
	other.wantReferrers("team/app", subject, want)
	other.wantCalls(map[string]int{"list": 2})
	want = sorted(want, h.sign("team/app", subject, 5, 2, false))
	other.wantReferrers("team/app", subject, want)
	other.wantCalls(map[string]int{"list": 2, "get": 2})
}

func TestReferrersOfAStockRegistryAreFoundOnce(t *testing.T) {
	h := overFolder(t)
	subject := h.push("team/app", "subject")
	other := h.push("team/app", "other")
	want := h.sign("team/app", subject, 0, 3, true)
	more := h.sign("team/app", other, 0, 2, true)
	h.age(reposRoot, 2*slack)
	h.push("team/app", "newest")
	h.age(reposRoot, 2*slack)
	h.wire.count()
	h.wantReferrers("team/app", subject, want)
	// The marker is looked for, eight manifests are read, five get their object, and
	// the marker is written.
	h.wantCalls(map[string]int{"list": 4, "get": 1 + 8, "put": 5 + 1})
	h.wantReferrers("team/app", other, more)
	h.wantCalls(map[string]int{"list": 2, "get": 2})

	want = sorted(want, h.sign("team/app", subject, 10, 1, true))
	host := h.again()
	host.wantReferrers("team/app", subject, want)
	// The old ones are not read again: the two newest are, of the others their objects.
	// The marker is moved.
	host.wantCalls(map[string]int{"list": 4, "get": 1 + 2 + 3, "put": 1 + 1})
	h.wire.count()
	h.wantReferrers("team/app", subject, want)
	h.wantCalls(map[string]int{"list": 2, "get": 1, "put": 1}) // it does not know that the marker was moved
	h.wantReferrers("team/app", subject, want)
	h.wantCalls(map[string]int{"list": 2})
}

func TestLostReferrersAreRebuiltWithoutTheMarker(t *testing.T) {
	h := overFolder(t)
	subject := h.push("team/app", "subject")
	want := h.sign("team/app", subject, 0, 3, false)
	h.age(reposRoot, 2*slack)
	h.wantReferrers("team/app", subject, want)
	for _, key := range h.below(reposRoot + "team/app/_referrers/") {
		if err := h.wire.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	h.again().wantReferrers("team/app", subject, want)
	if got := h.below(reposRoot + "team/app/_referrers/"); len(got) != 4 {
		t.Errorf("%q", got)
	}
	// This host relies on what it knew, for an hour.
	h.referrers.repos.get("team/app").began = time.Now().Add(-knownFor - time.Second)
	h.wantReferrers("team/app", subject, want)
}

func TestRemovedReferrerIsNotListed(t *testing.T) {
	h := overFolder(t)
	subject := h.push("team/app", "subject")
	ours := h.sign("team/app", subject, 0, 3, false)
	h.age(reposRoot, time.Second) // what is taken again below has another time, however quick this is
	other := h.again()
	other.wantReferrers("team/app", subject, ours)
	h.wire.count()
	if _, err := h.RemoveManifest(t.Context(), "team/app", ours[0]); err != nil {
		t.Fatal(err)
	}
	// What it is about, and, at the end, whether a tag or it is back.
	h.wantCalls(map[string]int{"stat": 1, "list": 2, "get": 2, "delete": 2})
	if got := h.below(reposRoot + "team/app/_referrers/" + digestPath(subject)); len(got) != 2 {
		t.Errorf("%q", got)
	}
	other.wantReferrers("team/app", subject, ours[1:])
	h.wantReferrers("team/app", subject, ours[1:])

	// A stock registry removes the link only.
	key, _ := revisionKey("team/app", ours[1])
	if err := h.wire.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	other.wantReferrers("team/app", subject, ours[2:])
	h.wantReferrers("team/app", subject, ours[2:])
	// And what it takes again has the same digest, and another time.
	for i := range 3 {
		h.push("team/app", string(signature(subject, i)))
	}
	other.wantReferrers("team/app", subject, ours)
	h.wantReferrers("team/app", subject, ours)
}

func TestSubjectThatIsRemovedKeepsItsReferrers(t *testing.T) {
	h := overFolder(t)
	subject := h.push("team/app", "subject", "v1")
	want := h.sign("team/app", subject, 0, 2, false)
	if _, err := h.RemoveManifest(t.Context(), "team/app", subject); err != nil {
		t.Fatal(err)
	}
	h.wantReferrers("team/app", subject, want)
}

func TestReadOnlyHostFindsReferrersAndKeepsThemInMemory(t *testing.T) {
	h := overFolder(t)
	subject := h.push("team/app", "subject")
	want := h.sign("team/app", subject, 0, 3, true)
	h.age(reposRoot, 2*slack)
	host := h.again()
	host.rights.write = No
	host.wantReferrers("team/app", subject, want)
	host.wantCalls(map[string]int{"list": 4, "get": 1 + 4})
	host.wantReferrers("team/app", subject, want)
	host.wantCalls(map[string]int{"list": 2})
	host.rights.write = Unknown
	host.referrers.cache = newDescriptorCache(maxDescriptors)
	host.wantReferrers("team/app", subject, want)
	host.wantCalls(map[string]int{"list": 2, "get": 3, "put": 3})
	host.wantReferrers("team/app", subject, want)
	host.wantCalls(map[string]int{"list": 2, "put": 1}) // all is there: the marker
}

func TestDamagedReferrerObjectsAreMended(t *testing.T) {
	h := overFolder(t)
	subject := h.push("team/app", "subject")
	want := h.sign("team/app", subject, 0, 4, false)
	for i, damage := range []string{"", "{", `{"digest":"` + want[0].String() + `","size":3,"mediaType":"text/plain"}`, strings.Repeat(" ", manifest.MaxSize+1)} {
		key, _ := referrerKey("team/app", subject, want[i])
		h.plant(key, []byte(damage))
	}
	h.wantReferrers("team/app", subject, want)
	other := h.again()
	other.wantReferrers("team/app", subject, want)
	for _, d := range want {
		key, _ := referrerKey("team/app", subject, d)
		if body, _, err := h.load(t.Context(), key, maxLink*10); err != nil || !json.Valid(body) {
			t.Errorf("%q, %v", body, err)
		}
	}
	// One that is no referrer of this subject is none, whatever its key says.
	stranger := h.push("team/app", `{"a":1}`)
	key, _ := referrerKey("team/app", subject, stranger)
	h.plant(key, []byte("damage"))
	h.again().wantReferrers("team/app", subject, want)
	h.plant(reposRoot+"team/app/_referrers/"+digestPath(subject)+"/sha256/nonsense/descriptor", []byte("{}"))
	h.again().wantReferrers("team/app", subject, want)
}

func TestMarkerThatSaysNothingSensibleIsNone(t *testing.T) {
	for _, body := range []string{"", "{}", `{"examined":"soon"}`, `{"examined":"2999-01-01T00:00:00Z"}`, strings.Repeat("x", 10_000)} {
		h := overFolder(t)
		subject := h.push("team/app", "subject")
		key, _ := examinedKey("team/app")
		h.plant(key, []byte(body))
		want := h.sign("team/app", subject, 0, 2, true)
		h.age(reposRoot+"team/app/_manifests/", 2*slack)
		h.wantReferrers("team/app", subject, want)
		if got, _, err := h.load(t.Context(), key, maxMarker); err != nil || string(got) == body {
			t.Errorf("the marker is %q, %v", got, err)
		}
	}
}

func TestCallsAtOnceAllSeeEverything(t *testing.T) {
	h := overFolder(t)
	subject := h.push("team/app", "subject")
	want := h.sign("team/app", subject, 0, 40, true)
	h.age(reposRoot, 2*slack)
	h.wire.count()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { h.wantReferrers("team/app", subject, want) })
	}
	wg.Wait()
	// A call may read an object that another has just written, once or twice.
	if c := h.wire.count(); c["put"] > 40+8 || c["get"] > 8+41+8 {
		t.Errorf("the manifests were read more than once: %v", c)
	}
}

// While one call is between its two lists another one looks into everything and
// writes the objects, which the first has not seen.
func TestWhatAnotherCallLookedIntoIsNotMissed(t *testing.T) {
	h := overFolder(t)
	subject := h.push("team/app", "subject")
	want := h.sign("team/app", subject, 0, 3, true)
	once := false
	h.wire.fault(func(op, key string) error {
		if op == "list" && strings.HasSuffix(key, "/revisions/") && !once {
			once = true
			h.wantReferrers("team/app", subject, want)
		}
		return nil
	})
	h.wantReferrers("team/app", subject, want)
}

func TestManifestsThatCannotBeReadAreNoReferrers(t *testing.T) {
	h := overFolder(t)
	subject := h.push("team/app", "subject")
	want := h.sign("team/app", subject, 0, 2, true)
	gone, wrong := h.sign("team/app", subject, 10, 1, true)[0], h.sign("team/app", subject, 20, 1, true)[0]
	if err := h.wire.Delete(t.Context(), blobKey(gone)); err != nil {
		t.Fatal(err)
	}
	h.plant(blobKey(wrong), []byte("x"))
	h.wantReferrers("team/app", subject, want)
	// A bucket that does not answer is another matter.
	host := h.again()
	h.age(reposRoot, 0)
	if err := h.wire.Delete(t.Context(), reposRoot+"team/app/_referrers/examined"); err != nil {
		t.Fatal(err)
	}
	for _, d := range want {
		key, _ := referrerKey("team/app", subject, d)
		if err := h.wire.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	host.wire.fault(func(op, key string) error {
		if key == blobKey(want[1]) {
			return answers(503)
		}
		return nil
	})
	if got, err := host.Referrers(t.Context(), "team/app", subject); err == nil {
		t.Errorf("an incomplete list: %v", got)
	}
	host.wire.fault(nil)
	host.wantReferrers("team/app", subject, want)
}

func TestListsThatTakeTooMuchAreRefused(t *testing.T) {
	h := overFolder(t)
	subject := h.push("team/app", "subject")
	for i := range 3 {
		body := fmt.Appendf(nil, `{"schemaVersion":2,"config":{"digest":%q,"size":2},"subject":{"digest":%q,"size":3},"annotations":{"a":"%d%s"}}`,
			manifest.DigestOf([]byte("{}")), subject, i, strings.Repeat("x", manifest.MaxSize-1000))
		m, err := manifest.Parse(body)
		if err != nil {
			t.Fatal(err)
		}
		h.push("team/app", string(body))
		if err := h.PutReferrer(t.Context(), "team/app", subject, m.AsReferrer()); err != nil {
			t.Fatal(err)
		}
		_, err = h.Referrers(t.Context(), "team/app", subject)
		if tooMuch := i >= 2; errors.Is(err, errTooMuch) != tooMuch {
			t.Errorf("%d: %v", i+1, err)
		}
	}
	if used := *h.referrers.cache.used; used > maxDescriptors/2 {
		t.Errorf("%d bytes are kept", used)
	}
}

func TestRefusedListIsNoListOfReferrers(t *testing.T) {
	h := overFolder(t)
	h.wire.fault(func(string, string) error { return answers(403) })
	_, err := h.Referrers(t.Context(), "team/app", someDigest)
	h.wantErr(err, fs.ErrPermission)
}

func TestReferrersEndWithTheirCaller(t *testing.T) {
	h := overFolder(t)
	subject := h.push("team/app", "subject")
	want := h.sign("team/app", subject, 0, 30, true)
	ctx, cancel := context.WithCancel(t.Context())
	reads := 0
	var mu sync.Mutex
	h.wire.fault(func(op, key string) error {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasPrefix(key, blobsRoot) {
			if reads++; reads == 10 {
				cancel()
			}
		}
		return nil
	})
	_, err := h.Referrers(ctx, "team/app", subject)
	h.wantErr(err, context.Canceled)
	h.wire.fault(nil)
	h.wire.count()
	h.wantReferrers("team/app", subject, want)
	if n := h.wire.count()["get"]; n > 1+31+30 {
		t.Errorf("%d reads after those that were done", n)
	}
}

func TestWhatIsKnownOfRepositoriesIsBounded(t *testing.T) {
	x := newExaminations()
	for i := range 2 * maxExaminations {
		e := x.get(fmt.Sprint("team/", i))
		for k := range 1000 {
			e.saw(manifest.DigestOf(fmt.Append(nil, k)), time.Now())
		}
		x.trim()
	}
	total := 0
	for _, e := range x.lru.Values() {
		total += e.size()
	}
	if total > maxExamined {
		t.Errorf("%d digests are held", total)
	}
	c := newDescriptorCache(100_000)
	for i := range 1000 {
		c.add(fmt.Sprint(i), manifest.Descriptor{Annotations: map[string]string{"a": strings.Repeat("x", i*20)}})
	}
	if *c.used > c.max || c.lru.Len() < 5 {
		t.Errorf("%d bytes in %d entries", *c.used, c.lru.Len())
	}
}

func FuzzReferrerObject(f *testing.F) {
	m, err := manifest.Parse(signature(someDigest, 1))
	if err != nil {
		f.Fatal(err)
	}
	body, err := encodeReferrer(m.AsReferrer())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte(`{"digest":"` + m.Digest.String() + `","size":1,"mediaType":"` + manifest.OCIIndex + `","annotations":{"` + "\u2028" + `":"\ud800"},"platform":{"os":"x"}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		desc, err := parseReferrer(m.Digest, body)
		if err != nil {
			if !errors.Is(err, errReferrer) {
				t.Fatal(err)
			}
			return
		}
		if desc.Digest != m.Digest || desc.Size <= 0 || !desc.IsManifest() || desc.Platform != nil || desc.URLs != nil {
			t.Fatalf("%+v", desc)
		}
		out, err := encodeReferrer(desc)
		if err != nil || len(out) > manifest.MaxSize {
			t.Fatalf("%d bytes, %v", len(out), err)
		}
		back, err := parseReferrer(m.Digest, out)
		if err != nil {
			t.Fatal(err)
		}
		again, err := encodeReferrer(back)
		if err != nil || string(again) != string(out) {
			t.Fatalf("%q became %q", out, again)
		}
	})
}
