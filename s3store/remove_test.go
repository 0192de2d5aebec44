package s3store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hostlocal/manifest"
)

// push makes a manifest of a repository, with tags, and returns its digest.
func (h *tester) push(repo, body string, tags ...string) manifest.Digest {
	h.Helper()
	d := manifest.DigestOf([]byte(body))
	if err := h.PutManifest(h.Context(), repo, d, []byte(body)); err != nil {
		h.Fatal(err)
	}
	for _, tag := range tags {
		if err := h.PutTag(h.Context(), repo, tag, d); err != nil {
			h.Fatal(err)
		}
	}
	return d
}

func (h *tester) wantTags(repo string, want ...string) {
	h.Helper()
	if got, err := h.Tags(h.Context(), repo, "", 100); err != nil || !slices.Equal(got, want) {
		h.Errorf("the tags are %q, %v, want %q", got, err, want)
	}
}

func (h *tester) wantManifest(repo string, d manifest.Digest, want bool) {
	h.Helper()
	if got, err := h.HasManifest(h.Context(), repo, d); err != nil || got != want {
		h.Errorf("%s is visible: %v, %v, want %v", d, got, err, want)
	}
}

// below returns the keys that begin with prefix.
func (h *tester) below(prefix string) (keys []string) {
	h.Helper()
	if err := h.eachObject(h.Context(), prefix, func(o Object) error { keys = append(keys, o.Key); return nil }); err != nil {
		h.Fatal(err)
	}
	return keys
}

func TestRemovedTagIsGoneWithItsHistory(t *testing.T) {
	h := overFolder(t)
	h.push("team/app", "one", "v1", "v1-x", "v")
	d := h.push("team/app", "two", "v1")
	h.wire.count()
	if err := h.RemoveTag(t.Context(), "team/app", "v1"); err != nil {
		t.Fatal(err)
	}
	h.wantCalls(map[string]int{"list": 1, "delete": 3})
	_, err := h.Tag(t.Context(), "team/app", "v1")
	h.wantErr(err, fs.ErrNotExist)
	h.wantTags("team/app", "v", "v1-x")
	h.wantManifest("team/app", d, true)
	h.wantErr(h.RemoveTag(t.Context(), "team/app", "v1"), fs.ErrNotExist)
	h.wantErr(h.RemoveTag(t.Context(), "team/app", "../tags"), fs.ErrNotExist)
	h.wantErr(h.RemoveTag(t.Context(), "nobody/app", "v1"), fs.ErrNotExist)
}

func TestRemovedManifestTakesItsTagsAlong(t *testing.T) {
	h := overFolder(t)
	d := h.push("team/app", "one", "v1", "v1-old", "v1.old")
	e := h.push("team/app", "two", "v1-old", "v2")
	h.plant(reposRoot+"team/app/_manifests/tags/lost/current/link", []byte(d.String())) // its history, that is
	h.push("other/app", "one", "v1")
	h.wire.count()
	gone, err := h.RemoveManifest(t.Context(), "team/app", d)
	if want := []string{"lost", "v1", "v1.old"}; err != nil || !slices.Equal(gone, want) {
		t.Fatalf("%v and %v are gone, want %v", err, gone, want)
	}
	// The link, the tags, four of them once meant it, three do: each is listed, two
	// have a history. Then the manifest, which might have a subject, and its link, and
	// the tags once more, one of which once meant it.
	h.wantCalls(map[string]int{"stat": 1, "list": 1 + 3 + 1, "get": 4 + 1 + 1, "delete": 3 + 2 + 1})
	h.wantTags("team/app", "v1-old", "v2")
	h.wantManifest("team/app", d, false)
	h.wantManifest("team/app", e, true)
	h.wantTags("other/app", "v1")
	h.wantManifest("other/app", d, true)
	if body, err := h.Manifest(t.Context(), "other/app", d); err != nil || string(body) != "one" {
		t.Error("the bytes are another repository's, too", err)
	}
	_, err = h.RemoveManifest(t.Context(), "team/app", d)
	h.wantErr(err, fs.ErrNotExist)
	h.push("team/app", "one", "v1")
	h.wantManifest("team/app", d, true)
}

// The removal is begun, fails at its first exchange, goes on, fails at its second, and
// so on; then the same with one that fails from there on.
func TestTagsGoBeforeTheirManifestAndARemovalThatWasCutGoesOn(t *testing.T) {
	for _, forGood := range []bool{false, true} {
		for first := 1; ; first++ {
			h := overFolder(t)
			d := h.push("team/app", "one", "v1", "v2")
			h.push("team/app", "two", "v1", "v3")
			h.push("team/app", "one", "v1")
			cuts := 0
			for cut := first; ; cut++ {
				var n atomic.Int32
				h.wire.fault(func(string, string) error {
					if at := int(n.Add(1)); at == cut || forGood && at > cut {
						return answers(400)
					}
					return nil
				})
				_, err := h.RemoveManifest(t.Context(), "team/app", d)
				h.wire.fault(nil)
				for _, tag := range []string{"v1", "v2"} {
					at, tagErr := h.Tag(t.Context(), "team/app", tag)
					if visible, err := h.HasManifest(t.Context(), "team/app", d); tagErr == nil && at == d && (err != nil || !visible) {
						t.Fatalf("cut at %d: %s means what is not there", cut, tag)
					}
				}
				if err == nil || cuts > 0 && errors.Is(err, fs.ErrNotExist) {
					break // the one before was cut when it looked again
				}
				if cuts++; cuts > 30 {
					t.Fatal(err)
				}
			}
			h.wantTags("team/app", "v3")
			h.wantManifest("team/app", d, false)
			if cuts == 0 || !forGood {
				break // it began behind the end, or is one that went through all
			}
		}
	}
}

func TestTagOfWhichOnlyHistoryIsLeftCanBeRemoved(t *testing.T) {
	h := overFolder(t)
	h.push("team/app", "one", "v1")
	h.push("team/app", "two", "v1")
	deletes := atomic.Int32{}
	h.wire.fault(func(op, _ string) error {
		if op == "delete" && deletes.Add(1) == 2 {
			return answers(400)
		}
		return nil
	})
	if err := h.RemoveTag(t.Context(), "team/app", "v1"); err == nil {
		t.Fatal("removed")
	}
	_, err := h.Tag(t.Context(), "team/app", "v1")
	h.wantErr(err, fs.ErrNotExist) // what it means went first
	if err := h.RemoveTag(t.Context(), "team/app", "v1"); err != nil {
		t.Fatal(err)
	}
	h.wantTags("team/app")
}

func TestLongHistoryIsRemovedPageByPage(t *testing.T) {
	h := overFolder(t)
	h.wire.Bucket = smallPages{h.wire.Bucket}
	h.push("team/app", "other", "v0", "v11")
	var d manifest.Digest
	for i := range 30 {
		d = h.push("team/app", fmt.Sprint(i), "v1")
	}
	if _, err := h.RemoveManifest(t.Context(), "team/app", d); err != nil {
		t.Fatal(err)
	}
	h.wantTags("team/app", "v0", "v11")
	if left := h.below(reposRoot + "team/app/_manifests/tags/v1/"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestRemovedLayerIsNotVisible(t *testing.T) {
	h := overFolder(t)
	body, d := blob(1000)
	h.put(body, d)
	for _, repo := range []string{"team/app", "other/app"} {
		if err := h.LinkLayer(t.Context(), repo, d); err != nil {
			t.Fatal(err)
		}
	}
	h.wire.count()
	if err := h.RemoveLayer(t.Context(), "team/app", d); err != nil {
		t.Fatal(err)
	}
	h.wantCalls(map[string]int{"stat": 1, "delete": 1})
	for repo, want := range map[string]bool{"team/app": false, "other/app": true} {
		if ok, err := h.HasLayer(t.Context(), repo, d); ok != want || err != nil {
			t.Errorf("%s: %v, %v", repo, ok, err)
		}
	}
	h.wantErr(h.RemoveLayer(t.Context(), "team/app", d), fs.ErrNotExist)
	h.wantRead(d, 0, -1, body)
}

func TestNothingIsRemovedFromAReadOnlyBucketOrAMirror(t *testing.T) {
	h := overFolder(t)
	d := h.push("team/app", "one", "v1")
	removals := func(repo string) []error {
		_, err := h.RemoveManifest(t.Context(), repo, d)
		return []error{h.RemoveTag(t.Context(), repo, "v1"), err, h.RemoveLayer(t.Context(), repo, d)}
	}
	h.opt.Mirror = false
	h.wire.count()
	for _, err := range removals("ghcr.io/owner/app") {
		h.wantErr(err, ErrReadOnly)
	}
	h.wantCalls(map[string]int{})
	h.wire.fault(func(op, _ string) error {
		if op == "delete" {
			return answers(403)
		}
		return nil
	})
	h.wantErr(h.RemoveTag(t.Context(), "team/app", "v1"), ErrReadOnly)
	h.wire.count()
	for _, err := range removals("team/app") {
		h.wantErr(err, ErrReadOnly)
	}
	h.wantCalls(map[string]int{})
	h.wantTags("team/app", "v1")
}

func TestRefusedListRemovesNothing(t *testing.T) {
	h := overFolder(t)
	d := h.push("team/app", "one", "v1")
	h.wire.fault(func(op, _ string) error {
		if op == "list" {
			return answers(403)
		}
		return nil
	})
	h.wantErr(h.RemoveTag(t.Context(), "team/app", "v1"), fs.ErrPermission)
	_, err := h.RemoveManifest(t.Context(), "team/app", d)
	h.wantErr(err, fs.ErrPermission)
	if errors.Is(err, ErrReadOnly) || h.ReadOnly() {
		t.Error("a bucket that may not be listed passes for a read-only one")
	}
	h.wire.fault(nil)
	h.wantTags("team/app", "v1")
}

// A stock registry over a folder takes an empty one for a tag.
func TestEmptiedFoldersGo(t *testing.T) {
	h := overFolder(t)
	h.push("team/app", "one", "v1", "v2")
	if err := h.RemoveTag(t.Context(), "team/app", "v1"); err != nil {
		t.Fatal(err)
	}
	tags := filepath.Join(h.dir, reposRoot, "team/app/_manifests/tags")
	if entries, err := os.ReadDir(tags); err != nil || len(entries) != 1 || entries[0].Name() != "v2" {
		t.Errorf("the folder has %v, %v", entries, err)
	}
	// A link that somebody made in place of a folder is not ours to remove.
	elsewhere := filepath.Join(h.dir, "elsewhere")
	if err := errors.Join(os.Rename(filepath.Join(tags, "v2"), elsewhere), os.Symlink("../../../../../../../../elsewhere", filepath.Join(tags, "v2"))); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"current/link", "index/" + digestPath(manifest.DigestOf([]byte("one"))) + "/link"} {
		if err := h.wire.Delete(t.Context(), reposRoot+"team/app/_manifests/tags/v2/"+key); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(filepath.Join(tags, "v2")); err != nil {
		t.Error(err)
	}
}

func TestFoldersThatVanishDoNotStopAWrite(t *testing.T) {
	h := overFolder(t)
	stop := make(chan struct{})
	var deleting, writing sync.WaitGroup
	for i := range 4 {
		deleting.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := h.wire.Bucket.Delete(context.Background(), fmt.Sprintf("a/b/c/%d", i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
		writing.Go(func() {
			for n := range 200 {
				_, err := h.wire.Bucket.Put(t.Context(), fmt.Sprintf("a/b/c/%d", i), strings.NewReader("x"), 1, PutOptions{IfNoneMatch: n%2 == 0})
				if err != nil && !errors.Is(err, ErrPrecondition) {
					t.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
	close(stop)
	deleting.Wait()
}

// A manifest that stays stays among the referrers of its subject: what was not removed
// must not look unsigned.
func TestARemovalThatWasCutTakesNoReferrerFromWhatStays(t *testing.T) {
	for cut := 1; ; cut++ {
		h := overFolder(t)
		subject := h.push("team/app", "subject", "v1")
		d := h.sign("team/app", subject, 0, 1, false)[0]
		h.wantReferrers("team/app", subject, []manifest.Digest{d})
		var n atomic.Int32
		h.wire.fault(func(string, string) error {
			if int(n.Add(1)) >= cut {
				return answers(400)
			}
			return nil
		})
		_, err := h.RemoveManifest(t.Context(), "team/app", d)
		h.wire.fault(nil)
		if err == nil {
			h.wantReferrers("team/app", subject, nil)
			return
		}
		if visible, err := h.HasManifest(t.Context(), "team/app", d); err != nil || visible && len(h.below(reposRoot+"team/app/_referrers/"+digestPath(subject)+"/")) == 0 {
			t.Errorf("cut at %d: visible %v without its object, %v", cut, visible, err)
		}
	}
}

// A push that comes while the same manifest is removed has all of it.
func TestWhatIsPushedAgainDuringItsRemovalIsAReferrer(t *testing.T) {
	h := overFolder(t)
	subject := h.push("team/app", "subject", "v1")
	d := h.sign("team/app", subject, 0, 1, false)[0]
	h.wantReferrers("team/app", subject, []manifest.Digest{d})
	again := false
	h.wire.fault(func(op, key string) error {
		if link, _ := revisionKey("team/app", d); !again && op == "delete" && key != link {
			again = true
			h.sign("team/app", subject, 0, 1, false)
		}
		return nil
	})
	if _, err := h.RemoveManifest(t.Context(), "team/app", d); err != nil {
		t.Fatal(err)
	}
	h.wire.fault(nil)
	if !again {
		t.Fatal("nothing came in between")
	}
	h.wantManifest("team/app", d, true)
	h.wantReferrers("team/app", subject, []manifest.Digest{d})
}
