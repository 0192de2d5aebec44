package blobcache

import (
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

// namesTester is a cache folder with names in it, and what they said they take.
type namesTester struct {
	t   *testing.T
	dir string
	*Names

	mu   sync.Mutex
	told int64
}

func newNamesTester(t *testing.T) *namesTester {
	h := &namesTester{t: t, dir: t.TempDir()}
	h.restart()
	return h
}

// restart opens the folder anew, as after a kill: nothing is closed before.
func (h *namesTester) restart() {
	h.t.Helper()
	n, err := OpenNames(h.dir, func(delta int64) {
		h.mu.Lock()
		h.told += delta
		h.mu.Unlock()
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.Names = n
}

func (h *namesTester) file(elem ...string) string {
	return filepath.Join(append([]string{h.dir, "repositories"}, elem...)...)
}

func (h *namesTester) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *namesTester) wantTag(repo, tag string, d manifest.Digest, confirmed time.Time) {
	h.t.Helper()
	got, err := h.Tag(repo, tag)
	if err != nil || got.Digest != d || !got.Confirmed.Equal(confirmed) {
		h.t.Errorf("%s:%s is %v (%v), want %v at %v", repo, tag, got, err, d, confirmed)
	}
}

func (h *namesTester) wantMiss(repo, tag string) {
	h.t.Helper()
	if got, err := h.Tag(repo, tag); !errors.Is(err, fs.ErrNotExist) || got != (Tag{}) {
		h.t.Errorf("%s:%s is %v (%v), want a miss", repo, tag, got, err)
	}
}

// wantToldTheTruth compares what account was told with the blocks on disk.
func (h *namesTester) wantToldTheTruth() {
	h.t.Helper()
	var total int64
	h.must(filepath.WalkDir(h.file(), func(p string, _ fs.DirEntry, err error) error {
		total += allocated(p)
		return err
	}))
	if h.told != total {
		h.t.Errorf("account was told of %d bytes, the folder takes %d", h.told, total)
	}
}

func numberedDigest(i int) manifest.Digest { return manifest.DigestOf(fmt.Append(nil, i)) }

var atNoon = time.Date(2024, 5, 1, 12, 0, 0, 123456789, time.UTC)

func TestTagOutlivesRestart(t *testing.T) {
	h := newNamesTester(t)
	h.wantMiss("ghcr.io/o/a", "v1")
	h.must(h.SetTag("ghcr.io/o/a", "v1", numberedDigest(1), atNoon))
	h.must(h.SetTag("ghcr.io/o/a", "v2", numberedDigest(2), time.Time{}))
	h.must(h.SetTag("hub.test:5443/a", "v1", numberedDigest(3), atNoon))
	for range 2 {
		h.wantTag("ghcr.io/o/a", "v1", numberedDigest(1), atNoon)
		h.wantTag("ghcr.io/o/a", "v2", numberedDigest(2), time.Time{})
		h.wantTag("hub.test:5443/a", "v1", numberedDigest(3), atNoon)
		h.wantMiss("ghcr.io/o", "v1")
		h.restart()
	}
	b, err := os.ReadFile(h.file("ghcr.io", "o", "a", "_manifests", "tags", "v1", "current", "link"))
	if err != nil || string(b) != numberedDigest(1).String() {
		t.Errorf("the link has %q (%v), want the digest alone", b, err)
	}
	h.wantToldTheTruth()
}

func TestTagMoves(t *testing.T) {
	h := newNamesTester(t)
	h.must(h.SetTag("a/b", "v1", numberedDigest(1), atNoon))
	h.must(h.SetTag("a/b", "v1", numberedDigest(2), atNoon.Add(time.Second)))
	for range 2 {
		h.wantTag("a/b", "v1", numberedDigest(2), atNoon.Add(time.Second))
		h.restart()
	}
	h.must(h.RemoveTag("a/b", "v1"))
	h.must(h.RemoveTag("a/b", "v1"))
	for range 2 {
		h.wantMiss("a/b", "v1")
		h.restart()
	}
	if _, err := os.Stat(h.file("a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("folders of a forgotten tag are left: %v", err)
	}
	h.wantToldTheTruth()
}

func TestConfirmationsReachTheDiskNowAndThen(t *testing.T) {
	h := newNamesTester(t)
	link := h.file("a", "b", "_manifests", "tags", "v1", "current", "link")
	h.must(h.SetTag("a/b", "v1", numberedDigest(1), atNoon))
	before, err := os.Stat(link)
	h.must(err)

	soon, later := atNoon.Add(confirmStep-1), atNoon.Add(2*confirmStep)
	h.must(h.SetTag("a/b", "v1", numberedDigest(1), soon))
	h.wantTag("a/b", "v1", numberedDigest(1), soon)
	h.restart()
	h.wantTag("a/b", "v1", numberedDigest(1), atNoon)

	h.must(h.SetTag("a/b", "v1", numberedDigest(1), later))
	h.restart()
	h.wantTag("a/b", "v1", numberedDigest(1), later)
	after, err := os.Stat(link)
	h.must(err)
	if !os.SameFile(before, after) {
		t.Error("a confirmation rewrote the link")
	}
}

func TestConfirmationFromTheFutureIsNone(t *testing.T) {
	h := newNamesTester(t)
	h.must(h.SetTag("a/b", "v1", numberedDigest(1), time.Now().Add(time.Hour)))
	h.restart()
	h.wantTag("a/b", "v1", numberedDigest(1), time.Time{})
}

func TestWarmTagReadsNoDiskAndAllocatesNothing(t *testing.T) {
	h := newNamesTester(t)
	h.must(h.SetTag("a/b", "v1", numberedDigest(1), atNoon))
	h.must(h.LinkManifest("a/b", numberedDigest(1)))
	h.must(h.SetOwn("a/b", true))
	h.restart()
	h.wantTag("a/b", "v1", numberedDigest(1), atNoon)
	h.HasManifest("a/b", numberedDigest(1))
	h.Own("a/b")
	h.must(os.RemoveAll(h.dir))
	h.wantTag("a/b", "v1", numberedDigest(1), atNoon)
	if own, known := h.Own("a/b"); !own || !known || !h.HasManifest("a/b", numberedDigest(1)) {
		t.Error("what was read once is read again")
	}
	if a := testing.AllocsPerRun(100, func() { h.Tag("a/b", "v1"); h.HasManifest("a/b", digestOne) }); a != 0 {
		t.Errorf("%v allocations", a)
	}
}

var digestOne = numberedDigest(1)

func TestLinksOutliveRestart(t *testing.T) {
	h := newNamesTester(t)
	long := manifest.SHA512.Sum(manifest.SHA512.New())
	h.must(h.LinkManifest("a/b", numberedDigest(1)))
	h.must(h.LinkManifest("a/b", numberedDigest(1)))
	h.must(h.LinkLayer("a/b", numberedDigest(2)))
	h.must(h.LinkLayer("a/b", long))
	for range 2 {
		for _, c := range []struct {
			what      string
			got, want bool
		}{
			{"manifest", h.HasManifest("a/b", numberedDigest(1)), true},
			{"layer", h.HasLayer("a/b", numberedDigest(2)), true},
			{"sha512 layer", h.HasLayer("a/b", long), true},
			{"manifest as layer", h.HasLayer("a/b", numberedDigest(1)), false},
			{"layer as manifest", h.HasManifest("a/b", numberedDigest(2)), false},
			{"layer of another repository", h.HasLayer("a", numberedDigest(2)), false},
		} {
			if c.got != c.want {
				t.Errorf("%s: %v", c.what, c.got)
			}
		}
		h.restart()
	}
	for _, p := range []string{
		h.file("a", "b", "_manifests", "revisions", "sha256", numberedDigest(1).Hex(), "link"),
		h.file("a", "b", "_layers", "sha256", numberedDigest(2).Hex(), "link"),
		h.file("a", "b", "_layers", "sha512", long.Hex(), "link"),
	} {
		if b, err := os.ReadFile(p); err != nil || !strings.HasSuffix(string(b), filepath.Base(filepath.Dir(p))) {
			t.Errorf("%s: %q, %v", p, b, err)
		}
	}
	h.wantToldTheTruth()
	h.must(h.UnlinkManifest("a/b", numberedDigest(1)))
	h.must(h.UnlinkLayer("a/b", numberedDigest(2)))
	h.must(h.UnlinkLayer("a/b", numberedDigest(2)))
	if h.HasManifest("a/b", numberedDigest(1)) || h.HasLayer("a/b", numberedDigest(2)) || !h.HasLayer("a/b", long) {
		t.Error("unlinking took the wrong ones")
	}
	h.wantToldTheTruth()
}

func (h *namesTester) wantOwn(repo string, own, known bool) {
	h.t.Helper()
	if gotOwn, gotKnown := h.Own(repo); gotOwn != own || gotKnown != known {
		h.t.Errorf("%s: own %v, known %v; want %v, %v", repo, gotOwn, gotKnown, own, known)
	}
}

func TestOwnIsRemembered(t *testing.T) {
	h := newNamesTester(t)
	h.wantOwn("a/b", false, false)
	for _, want := range []bool{true, false, true, true} {
		h.must(h.SetOwn("a/b", want))
		for range 2 {
			h.wantOwn("a/b", want, true)
			h.restart()
		}
	}
	h.wantToldTheTruth()
}

// A name that is nowhere costs no disk; one that is pulled is known after a
// restart, when the bucket cannot be asked.
func TestNotOwnIsWrittenDownWithTheFirstLink(t *testing.T) {
	h := newNamesTester(t)
	for i := range 100 {
		h.must(h.SetOwn(fmt.Sprintf("made/up%d", i), false))
		h.wantOwn(fmt.Sprintf("made/up%d", i), false, true)
	}
	if entries, err := os.ReadDir(h.file()); err != nil || len(entries) != 0 {
		t.Errorf("something was written: %v, %v", entries, err)
	}
	h.must(h.SetOwn("some/app", false))
	h.must(h.SetTag("docker.io/some/app", "v1", numberedDigest(1), atNoon))
	h.must(h.SetOwn("other/app", false))
	h.must(h.LinkLayer("other/app", numberedDigest(1)))
	h.restart()
	h.wantOwn("some/app", false, true)
	h.wantOwn("other/app", false, true)
	h.wantOwn("made/up1", false, false)
	h.wantToldTheTruth()
}

func TestDamagedLinksAreMisses(t *testing.T) {
	for name, damage := range map[string]func(p string) error{
		"empty":   func(p string) error { return os.Truncate(p, 0) },
		"torn":    func(p string) error { return os.Truncate(p, 30) },
		"zeros":   func(p string) error { return os.WriteFile(p, make([]byte, 71), 0o644) },
		"endless": func(p string) error { return os.WriteFile(p, make([]byte, 1<<20), 0o644) },
		"lengthened": func(p string) error {
			b, err := os.ReadFile(p)
			return errors.Join(err, os.WriteFile(p, append(b, 'a'), 0o644))
		},
		"removed":  os.Remove,
		"a folder": func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o755)) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newNamesTester(t)
			set := func() error {
				return errors.Join(
					h.SetTag("a/b", "v1", numberedDigest(1), atNoon),
					h.LinkManifest("a/b", numberedDigest(1)),
					h.LinkLayer("a/b", numberedDigest(1)),
					h.SetOwn("a/b", true))
			}
			h.must(set())
			h.must(damage(h.file("a", "b", "_manifests", "tags", "v1", "current", "link")))
			h.must(damage(h.file("a", "b", "_manifests", "revisions", "sha256", numberedDigest(1).Hex(), "link")))
			h.must(damage(h.file("a", "b", "_layers", "sha256", numberedDigest(1).Hex(), "link")))
			h.must(damage(h.file("a", "b", "_own")))
			h.restart()
			h.wantMiss("a/b", "v1")
			if tags, err := h.Tags("a/b"); err != nil || len(tags) != 0 {
				t.Errorf("tags %q, %v", tags, err)
			}
			if _, known := h.Own("a/b"); known || h.HasManifest("a/b", numberedDigest(1)) || h.HasLayer("a/b", numberedDigest(1)) {
				t.Error("a damaged link is believed")
			}
			if name == "a folder" {
				return // a rename cannot replace one; it stays a miss
			}
			h.must(set())
			h.restart()
			h.wantTag("a/b", "v1", numberedDigest(1), atNoon)
			if own, _ := h.Own("a/b"); !own || !h.HasManifest("a/b", numberedDigest(1)) || !h.HasLayer("a/b", numberedDigest(1)) {
				t.Error("not healed")
			}
		})
	}
}

func TestLinkOfAnotherDigestIsAMiss(t *testing.T) {
	h := newNamesTester(t)
	h.must(h.LinkLayer("a/b", numberedDigest(1)))
	h.must(os.WriteFile(h.file("a", "b", "_layers", "sha256", numberedDigest(1).Hex(), "link"), []byte(numberedDigest(2).String()), 0o644))
	h.restart()
	if h.HasLayer("a/b", numberedDigest(1)) {
		t.Error("a link that names another digest counts")
	}
}

// A write that fails is known until the end, and a later confirmation must not
// bless the digest that is still on disk.
func TestFailedWriteIsRememberedButNotBlessed(t *testing.T) {
	h := newNamesTester(t)
	h.must(h.SetTag("a/b", "v1", numberedDigest(1), atNoon))
	// Where the temporary file goes is a folder: writing fails, reading does not.
	h.must(os.MkdirAll(h.file("_new", "x"), 0o755))
	later := atNoon.Add(time.Hour)
	for range 2 {
		if err := h.SetTag("a/b", "v1", numberedDigest(2), later); err == nil {
			t.Fatal("no error")
		}
		h.wantTag("a/b", "v1", numberedDigest(2), later)
	}
	if err := h.LinkLayer("a/b", numberedDigest(1)); err == nil || !h.HasLayer("a/b", numberedDigest(1)) {
		t.Errorf("a link that could not be written: %v, known %v", err, h.HasLayer("a/b", numberedDigest(1)))
	}
	h.restart()
	h.wantTag("a/b", "v1", numberedDigest(1), atNoon)
	h.must(os.RemoveAll(h.file("_new")))
	h.must(h.SetTag("a/b", "v1", numberedDigest(2), later))
	h.restart()
	h.wantTag("a/b", "v1", numberedDigest(2), later)
}

func TestNamesRecoverWhenTheirFolderWasRemoved(t *testing.T) {
	h := newNamesTester(t)
	h.must(h.SetTag("a/b", "v1", numberedDigest(1), atNoon))
	h.must(os.RemoveAll(h.file()))
	h.must(h.SetTag("a/b", "v1", numberedDigest(1), atNoon.Add(time.Minute)))
	h.must(h.LinkLayer("c/d", numberedDigest(1)))
	h.must(os.RemoveAll(h.file("c")))
	h.must(h.LinkLayer("c/d", numberedDigest(2)))
	h.restart()
	h.wantTag("a/b", "v1", numberedDigest(1), atNoon.Add(time.Minute))
	// The cache folder itself is not made again: a disk may be unmounted there.
	h.must(os.RemoveAll(h.dir))
	if err := h.LinkLayer("c/d", numberedDigest(3)); err == nil {
		t.Error("no error without the cache folder")
	}
	if _, err := os.Stat(h.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the cache folder was made again: %v", err)
	}
}

func TestNothingIsWrittenOutsideTheFolder(t *testing.T) {
	h := newNamesTester(t)
	for _, repo := range []string{"", ".", "..", "../x", "a/../../x", "/etc", "a//b", "a/", "_layers", "a/_layers", "a/_own", "_new",
		"A/b", "a\x00b", "ghcr.io:/..", ".hidden/a", "[::1]:5000/../a", "-/a", strings.Repeat("a/", 200) + "a"} {
		for what, err := range map[string]error{
			"tag":      h.SetTag(repo, "v1", numberedDigest(1), atNoon),
			"manifest": h.LinkManifest(repo, numberedDigest(1)),
			"layer":    h.LinkLayer(repo, numberedDigest(1)),
			"own":      h.SetOwn(repo, true),
			"remove":   h.RemoveTag(repo, "v1"),
		} {
			if !errors.Is(err, manifest.ErrName) {
				t.Errorf("%s in %.40q: %v", what, repo, err)
			}
		}
	}
	for _, tag := range []string{"", ".", "..", "a/b", "../../x", strings.Repeat("a", 129)} {
		if err := h.SetTag("a", tag, numberedDigest(1), atNoon); !errors.Is(err, manifest.ErrTag) {
			t.Errorf("tag %.40q: %v", tag, err)
		}
	}
	if err := h.LinkLayer("a", manifest.Digest{}); !errors.Is(err, manifest.ErrDigest) {
		t.Errorf("no digest: %v", err)
	}
	entries, err := os.ReadDir(h.file())
	if err != nil || len(entries) != 0 {
		t.Errorf("something was written: %v, %v", entries, err)
	}
	h.must(h.LinkLayer("[::1]:5000/a", numberedDigest(1)))
}

func TestThousandsOfTags(t *testing.T) {
	h := newNamesTester(t)
	var want []string
	for i := range 1200 {
		tag := fmt.Sprintf("v%04d", i)
		want = append(want, tag)
		h.must(h.SetTag("a/b", tag, numberedDigest(i), atNoon))
	}
	h.restart()
	if got, err := h.Tags("a/b"); err != nil || !slices.Equal(got, want) {
		t.Errorf("%d tags, %v; want %d", len(got), err, len(want))
	}
	if _, err := h.Tags("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("tags of nothing: %v", err)
	}
	h.wantToldTheTruth()
}

func TestTrimForgetsTheLeastRecentRepositories(t *testing.T) {
	h := newNamesTester(t)
	for i := range 20 {
		repo := fmt.Sprintf("ghcr.io/o/r%02d", i)
		h.must(h.SetTag(repo, "v1", numberedDigest(i), atNoon.Add(time.Duration(i)*time.Hour)))
		h.must(h.SetTag(repo+"/below", "v1", numberedDigest(i), atNoon.Add(time.Duration(i)*time.Hour)))
	}
	h.wantToldTheTruth()
	all := h.told
	if left, err := h.Trim(all); err != nil || left != all {
		t.Errorf("within the limit: %d left of %d, %v", left, all, err)
	}
	left, err := h.Trim(all / 2)
	if err != nil || left > all/2 || left < all/4 {
		t.Errorf("%d left of %d, %v", left, all, err)
	}
	if left != h.told {
		t.Errorf("%d left, but account knows of %d", left, h.told)
	}
	h.wantToldTheTruth()
	for range 2 {
		h.wantMiss("ghcr.io/o/r00", "v1")
		h.wantMiss("ghcr.io/o/r00/below", "v1")
		h.wantTag("ghcr.io/o/r19", "v1", numberedDigest(19), atNoon.Add(19*time.Hour))
		h.restart()
	}
	if _, err := os.Stat(h.file("ghcr.io", "o", "r00")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its folder is left: %v", err)
	}
}

// Writers and readers of one tag: at the end memory and disk agree.
func TestMemoryAndDiskAgreeAfterARace(t *testing.T) {
	h := newNamesTester(t)
	set := []manifest.Digest{numberedDigest(0), numberedDigest(1), numberedDigest(2)}
	for round := range 20 {
		var wg sync.WaitGroup
		tag := fmt.Sprintf("v%d", round)
		for i := range 8 {
			wg.Go(func() {
				for j := range 10 {
					switch {
					case i < 3:
						h.SetTag("a/b", tag, set[i], atNoon.Add(time.Duration(j)*confirmStep))
					case i == 3:
						h.RemoveTag("a/b", tag)
					default:
						got, err := h.Tag("a/b", tag)
						if i := slices.Index(set, got.Digest); err == nil && i < 0 {
							t.Errorf("read %v, which nobody wrote", got)
						}
						h.forget(func(linkKey) bool { return i == 7 })
					}
				}
			})
		}
		wg.Wait()
		warm, warmErr := h.Tag("a/b", tag)
		h.restart()
		cold, coldErr := h.Tag("a/b", tag)
		if warm.Digest != cold.Digest || (warmErr == nil) != (coldErr == nil) {
			t.Fatalf("memory says %v (%v), the disk %v (%v)", warm, warmErr, cold, coldErr)
		}
	}
	h.wantToldTheTruth()
}

// FuzzLinkPath: a name that is accepted lies under the folder, in a folder of its
// own repository, where Trim finds it again.
func FuzzLinkPath(f *testing.F) {
	for _, s := range [][2]string{{"a/b", "v1"}, {"ghcr.io/o/a", "_x"}, {"[::1]:5000/a", "v1"}, {"../a", ".."}, {"a/_layers", "v1"}, {"hub.test:5443/a/../b", "v1"}} {
		f.Add(s[0], s[1])
	}
	n := &Names{root: "/root/repositories"}
	f.Fuzz(func(t *testing.T, repo, tag string) {
		tagged, tagErr := tagKey(repo, tag)
		layer, layerErr := digestKey(linkLayer, repo, digestOne)
		own, ownErr := ownKey(repo)
		if (layerErr == nil) != (ownErr == nil) || tagErr == nil && ownErr != nil {
			t.Fatalf("%q: %v, %v, %v", repo, tagErr, layerErr, ownErr)
		}
		for k, err := range map[linkKey]error{tagged: tagErr, layer: layerErr, own: ownErr} {
			if p := n.path(k); err == nil && (filepath.Clean(p) != p || n.repositoryOf(p) != repo || !strings.HasPrefix(p, n.root+"/"+repo+"/_")) {
				t.Fatalf("%q %q lies at %q, which is %q's", repo, tag, p, n.repositoryOf(p))
			}
		}
	})
}

func BenchmarkWarmTag(b *testing.B) {
	n, err := OpenNames(b.TempDir(), nil)
	if err == nil {
		err = n.SetTag("ghcr.io/owner/app", "v1", numberedDigest(1), atNoon)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		n.Tag("ghcr.io/owner/app", "v1")
	}
}

func BenchmarkLinkLayer(b *testing.B) {
	n, err := OpenNames(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		if err := n.LinkLayer("ghcr.io/owner/app", numberedDigest(i)); err != nil {
			b.Fatal(err)
		}
	}
}
