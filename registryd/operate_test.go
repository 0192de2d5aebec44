package registryd

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hostlocal/manifest"
)

func TestRefreshAsksWhateverThePolicy(t *testing.T) {
	within(t, func(w *world) {
		old := w.hub.push(w.t, "library/app:v1", "one")
		w.mustGet("library/app:v1", old)
		moved := w.hub.push(w.t, "library/app:v1", "two")
		r, err := w.g.Refresh(w.t.Context(), "app:v1")
		if err != nil || r.Before != old.d || r.Now != moved.d || r.Repository != "docker.io/library/app" {
			w.t.Fatalf("%+v, %v", r, err)
		}
		w.mustGet("library/app:v1", moved)
		if _, err := w.g.Refresh(w.t.Context(), "app@"+old.d.String()); err == nil {
			w.t.Fatal("a digest was refreshed")
		}
		w.hub.fail("", errOutage)
		_, err = w.g.Refresh(w.t.Context(), "app:v1")
		w.wantOutage(err)
	}, policy(Policy{Mode: Immutable}))
}

func TestEvictTakesAllOfAnImage(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.pull("library/app:v1", im)
		synctest.Wait()
		e, err := w.g.Evict(w.t.Context(), "docker.io/library/app:v1")
		if err != nil || e.Manifests != 1 || e.Blobs != 2 || e.Bytes != int64(len(im.body)+len(im.layer)+len(im.config)) {
			w.t.Fatalf("%+v, %v", e, err)
		}
		for _, d := range []manifest.Digest{im.d, im.layerDigest(), im.configDigest()} {
			if w.cache.Has(d) {
				w.t.Fatalf("%s is still here", d)
			}
		}
		w.hub.fail("", errOutage)
		w.bucket.fail("", errOutage)
		_, err = w.get("library/app:v1")
		w.wantOutage(err)
		w.hub.heal()
		w.pull("library/app:v1", im)
	})
}

func TestExplainSaysWhatIsKnown(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.pull("library/app:v1", im)
		at := time.Now()
		time.Sleep(time.Hour)
		calls := w.hub.count("")
		e, err := w.g.Explain(w.t.Context(), "app:v1")
		if err != nil {
			w.t.Fatal(err)
		}
		if e.Repository != "docker.io/library/app" || e.Upstream != "docker.io" || e.Path != "library/app" || e.Why == "" ||
			e.Tag != "v1" || e.Policy != "ttl 1m0s" || e.Digest != im.d || !e.Confirmed.Equal(at) || !e.OnDisk || !e.Whole {
			w.t.Fatalf("%+v", e)
		}
		w.wantCalls(&w.hub.calls, "", calls)
		if e, _ := w.g.Explain(w.t.Context(), "ghcr.io/a/b:v1"); !e.Digest.IsZero() || e.OnDisk {
			w.t.Fatalf("%+v", e)
		}
		if _, err := w.g.Explain(w.t.Context(), "UPPER/case"); err == nil {
			w.t.Fatal("a bad name was explained")
		}
	})
}

func TestCatalogListsOwnRepositoriesOnly(t *testing.T) {
	within(t, func(w *world) {
		for i := range 5 {
			w.bucket.push(w.t, fmt.Sprintf("team/app%d:v1", i), "one")
			w.bucket.push(w.t, fmt.Sprintf("docker.io/library/app%d:v1", i), "one")
		}
		names, more, err := w.g.Catalog(w.t.Context(), 3, "team/app0")
		if want := []string{"team/app1", "team/app2", "team/app3"}; err != nil || !more || !slices.Equal(names, want) {
			w.t.Fatalf("%v, %v, %v", names, more, err)
		}
		names, more, err = w.g.Catalog(w.t.Context(), 5, "")
		if err != nil || more || len(names) != 5 {
			w.t.Fatalf("%v, %v, %v", names, more, err)
		}
	})
}

func TestCatalogAsksForNoMoreThanItsPage(t *testing.T) {
	within(t, func(w *world) {
		for i := range 9 {
			w.bucket.push(w.t, fmt.Sprintf("team/app%d:v1", i), "one")
		}
		names, more, err := w.g.Catalog(w.t.Context(), 2, "")
		if err != nil || !more || len(names) != 2 || w.bucket.asked != 3 {
			w.t.Fatalf("%v, %v, %v: the bucket was asked for %d names", names, more, err, w.bucket.asked)
		}
	})
}

// A walk through a large bucket takes longer than anybody waits. What it found is a
// page, and the next one goes on behind it; and the bucket is none that fails.
func TestCatalogOfAHugeBucketComesInPieces(t *testing.T) {
	within(t, func(w *world) {
		for i := range 3 {
			w.bucket.push(w.t, fmt.Sprintf("team/app%d:v1", i), "one")
		}
		w.bucket.listPace = answerLimit * 2 / 5 // two names in time, and not three
		for range 10 {
			names, more, err := w.g.Catalog(w.t.Context(), 1000, "")
			if err != nil || !more || !slices.Equal(names, []string{"team/app0", "team/app1"}) {
				w.t.Fatalf("%v, %v, %v", names, more, err)
			}
		}
		names, more, err := w.g.Catalog(w.t.Context(), 1000, "team/app1")
		if err != nil || more || !slices.Equal(names, []string{"team/app2"}) {
			w.t.Fatalf("%v, %v, %v", names, more, err)
		}
		w.bucket.listPace = 2 * answerLimit
		_, _, err = w.g.Catalog(w.t.Context(), 1000, "")
		w.wantOutage(err)
	})
}

// Some registries send all their tags whatever one asks for.
func TestTagsOfARegistryWithoutPagesComeToAnEnd(t *testing.T) {
	for _, c := range []struct {
		last, want string
		some       bool
	}{{"", "a b c", true}, {"a", "b c", true}, {"c", "", false}, {"0", "a b c", true}} {
		tags, some := pageOf([]string{"a", "no tag", "b", "c\n", "../d", "c"}, c.last)
		if strings.Join(tags, " ") != c.want || some != c.some {
			t.Errorf("after %q: %v, %v", c.last, tags, some)
		}
	}
}

func TestFewListsAreMadeAtOnce(t *testing.T) {
	within(t, func(w *world) {
		w.hub.stall("TAGS")
		for range 5 * maxLists {
			go w.g.Tags(w.t.Context(), w.repo("debian"), 10, "")
		}
		synctest.Wait()
		w.wantCalls(&w.hub.calls, "TAGS", maxLists)
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.pull("library/app:v1", im) // which waits for none of them
		w.hub.heal()
	})
}

func TestTagsAreListedWhereTheyAre(t *testing.T) {
	within(t, func(w *world) {
		w.bucket.push(w.t, "own/app:v1", "one")
		w.bucket.push(w.t, "own/app:v2", "two")
		tags, more, err := w.g.Tags(w.t.Context(), w.repo("own/app"), 1, "")
		if err != nil || !more || !slices.Equal(tags, []string{"v1"}) {
			w.t.Fatalf("%v, %v, %v", tags, more, err)
		}
		tags, more, err = w.g.Tags(w.t.Context(), w.repo("own/app"), 1, "v1")
		if err != nil || more || !slices.Equal(tags, []string{"v2"}) {
			w.t.Fatalf("%v, %v, %v", tags, more, err)
		}
		tags, more, err = w.g.Tags(w.t.Context(), w.repo("debian"), 2, "")
		if err != nil || !more || len(tags) != 2 {
			w.t.Fatalf("%v, %v, %v", tags, more, err)
		}
		w.wantCalls(&w.hub.calls, "TAGS", 1)
	})
}
