package s3store

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"testing"
)

func (h *tester) tag(repo string, tags ...string) {
	h.Helper()
	for _, tag := range tags {
		h.plant(reposRoot+repo+"/_manifests/tags/"+tag+"/current/link", []byte(someDigest.String()))
	}
}

func TestTagsComeInLexicalOrderPageByPage(t *testing.T) {
	tags := []string{"1", "1-alpine", "1.2", "1.2-alpine", "1.2.3", "1.2.3-rc1", "1_x", "10", "A", "a", "a-b", "a.b", "latest", "v1", "_x"}
	h := overFolder(t)
	h.tag("team/app", tags...)
	h.tag("team/app2", "other")
	slices.Sort(tags)
	for size := 1; size <= len(tags)+1; size++ {
		var got []string
		for after := ""; ; {
			page, err := h.Tags(t.Context(), "team/app", after, size)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, page...)
			if len(page) < size {
				break
			}
			after = page[len(page)-1]
		}
		if !slices.Equal(got, tags) {
			t.Errorf("pages of %d: %q", size, got)
		}
	}
}

func TestListsCostPagesAndNotACallAnEntry(t *testing.T) {
	h := overFolder(t)
	for i := range 50 {
		h.push("team/app", "one", fmt.Sprint("v", i))
		h.tag(fmt.Sprint("team/", i), "v1")
	}
	h.wire.count()
	if got, err := h.Tags(t.Context(), "team/app", "", 100); err != nil || len(got) != 50 {
		t.Error(got, err)
	}
	h.wantCalls(map[string]int{"list": 1})
	if got, err := h.Repositories(t.Context(), "", 100); err != nil || len(got) != 51 {
		t.Error(got, err)
	}
	h.wantCalls(map[string]int{"list": 2 + 51}) // a page a folder, its own manifests not entered
}

func TestTagsOfManyPagesAreSortedRight(t *testing.T) {
	h := overFolder(t)
	var tags []string
	for range 400 {
		tag := "v"
		for range rand.IntN(4) {
			tag += string("-.0_a"[rand.IntN(5)])
		}
		tags = append(tags, tag)
	}
	slices.Sort(tags)
	tags = slices.Compact(tags)
	h.tag("team/app", tags...)
	h.wire.Bucket = smallPages{h.wire.Bucket}
	for range 200 {
		from, n := rand.IntN(len(tags)), 1+rand.IntN(20)
		got, err := h.Tags(t.Context(), "team/app", tags[from], n)
		want := tags[from+1:]
		if want = want[:min(n, len(want))]; err != nil || !slices.Equal(got, want) {
			t.Fatalf("%d after %q: got %q, want %q, %v", n, tags[from], got, want, err)
		}
	}
	h.wire.count()
	if _, err := h.Tags(t.Context(), "team/app", "", 3); err != nil || h.wire.count()["list"] > 20 {
		t.Error("a short page read the whole list", err)
	}
}

func TestRepositoriesAreWalkedPageByPage(t *testing.T) {
	want := []string{"app", "app/sub", "app-2", "library/alpine", "library/nginx", "team/deep/er/app", "team/x.y"}
	h := overFolder(t)
	for _, repo := range want {
		h.tag(repo, "v1", "v2")
	}
	h.tag("ghcr.io/owner/app", "v1")
	h.tag("localhost:5000/app", "v1")
	h.plant(reposRoot+"pushing/_uploads/x/startedat", []byte("now"))
	h.plant(reposRoot+"team/half/_layers/sha256/"+someDigest.Hex()+"/link", []byte(someDigest.String()))
	for size := 1; size <= len(want)+1; size++ {
		var got []string
		for after := ""; ; {
			page, err := h.Repositories(t.Context(), after, size)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, page...)
			if len(page) < size {
				break
			}
			after = page[len(page)-1]
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %q", size, got)
		}
	}
}

// Docker takes a first component with a dot for a host; a pattern of the
// configuration may say that it is none.
func TestOwnRepositoriesMayLookMirrored(t *testing.T) {
	h := overFolder(t)
	h.opt = Options{Own: func(host string) bool { return host == "my.team" }}
	for _, repo := range []string{"ghcr.io/owner/app", "my.team/app"} {
		h.tag(repo, "v1")
	}
	if got, err := h.Repositories(t.Context(), "", 10); err != nil || !slices.Equal(got, []string{"my.team/app"}) {
		t.Errorf("got %q, %v", got, err)
	}
	h.wantErr(h.PutTag(t.Context(), "ghcr.io/owner/app", "v2", someDigest), ErrReadOnly)
	if err := h.PutTag(t.Context(), "my.team/app", "v2", someDigest); err != nil {
		t.Error(err)
	}
}

func TestRepositoriesFoundBeforeAFailureAreReturned(t *testing.T) {
	h := overFolder(t)
	h.tag("app", "v1")
	h.tag("team/app", "v1")
	lists := 0
	h.wire.fault(func(op, _ string) error {
		if lists++; lists > 3 { // the root, app, and what is below that
			return answers(403)
		}
		return nil
	})
	got, err := h.Repositories(t.Context(), "", 10)
	h.wantErr(err, fs.ErrPermission)
	if !slices.Equal(got, []string{"app"}) {
		t.Errorf("got %q", got)
	}
}

func TestExistsIsOneCall(t *testing.T) {
	h := overFolder(t)
	h.tag("team/app", "v1")
	for repo, want := range map[string]bool{"team/app": true, "team": false, "team/ap": false, "team/app/x": false} {
		h.wire.count()
		if got, err := h.Exists(t.Context(), repo); got != want || err != nil {
			t.Errorf("%s: %v, %v", repo, got, err)
		}
		h.wantCalls(map[string]int{"list": 1})
	}
}

func TestRefusedOrMissingListIsNoAnswer(t *testing.T) {
	h := overFolder(t)
	h.wire.fault(func(string, string) error { return answers(403) })
	_, err := h.Exists(t.Context(), "team/app")
	h.wantErr(err, fs.ErrPermission)
	_, err = h.Tags(t.Context(), "team/app", "", 10)
	h.wantErr(err, fs.ErrPermission)
	h.wire.fault(func(string, string) error { return answers(404) }) // no such bucket
	if ok, err := h.Exists(t.Context(), "team/app"); ok || err == nil {
		t.Errorf("%v, %v", ok, err)
	}
	if _, err := h.Repositories(t.Context(), "", 10); err == nil {
		t.Error("an empty catalog of a bucket that is not there")
	}
}

// smallPages is a store whose pages have seven entries.
type smallPages struct{ Bucket }

func (s smallPages) List(ctx context.Context, prefix, delimiter, after string, max int) (Page, error) {
	return s.Bucket.List(ctx, prefix, delimiter, after, min(max, 7))
}
