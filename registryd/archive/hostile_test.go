package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/archive/archivetest"
)

// A byte of one layer is wrong: nothing of its image gets in, in either format.
func TestDamagedImageLeavesNothing(t *testing.T) {
	img := archivetest.New(1, 300, 5000, 700)
	l := archivetest.NewLayout()
	l.Name(l.Image(img, manifest.SHA256, nil), "org.opencontainers.image.ref.name", "x:1")
	for name, files := range map[string][]archivetest.File{"docker": archivetest.Docker(img, "x:1"), "layout": l.Files()} {
		for i, f := range files {
			if !bytes.Equal(f.Body, img.Layers[1]) {
				continue
			}
			files[i].Body = bytes.Clone(f.Body)
			files[i].Body[4000] ^= 1
		}
		m := newMemory(t)
		_, err := put(t, m, opened(t, files), "r/a:1")
		wantError(t, err, manifest.ErrMismatch, "nothing of the image was imported")
		if m.writes != 0 {
			t.Errorf("%s: %d writes", name, m.writes)
		}
	}
}

// An archive that says something impossible is refused with what is wrong, before
// anything is written.
func TestHostileArchives(t *testing.T) {
	img := archivetest.New(1, 300)
	docker := func(change func(files []archivetest.File) []archivetest.File) func() []archivetest.File {
		return func() []archivetest.File { return change(archivetest.Docker(img, "x:1")) }
	}
	layout := func(change func(l *archivetest.Layout)) func() []archivetest.File {
		return func() []archivetest.File {
			l := archivetest.NewLayout()
			change(l)
			return l.Files()
		}
	}
	replace := func(files []archivetest.File, name string, body []byte) []archivetest.File {
		for i := range files {
			if strings.HasSuffix(files[i].Name, name) {
				files[i].Body, files[i].Link = body, ""
			}
		}
		return files
	}
	link := func(to string) func(files []archivetest.File) []archivetest.File {
		return func(files []archivetest.File) []archivetest.File {
			files[1].Body, files[1].Link = nil, to
			return files
		}
	}
	for name, c := range map[string]struct {
		files func() []archivetest.File
		says  string
	}{
		"link out":        {docker(link("../../../etc/passwd")), "leads out"},
		"absolute link":   {docker(link("/etc/passwd")), "leads out"},
		"link to itself":  {docker(link("layer.tar")), "link to links"},
		"link to nothing": {docker(link("other.tar")), "not in it"},
		"layer in /etc": {docker(func(f []archivetest.File) []archivetest.File {
			return replace(f, "manifest.json", []byte(`[{"Config":"/etc/hostname","Layers":["/etc/passwd"]}]`))
		}), "not in it"},
		"layer above": {docker(func(f []archivetest.File) []archivetest.File {
			return replace(f, "manifest.json", []byte(`[{"Config":"../../etc/hostname"}]`))
		}), "not in it"},
		"no table":    {docker(func(f []archivetest.File) []archivetest.File { return f[:2] }), "neither index.json"},
		"table twice": {docker(func(f []archivetest.File) []archivetest.File { return append(f, f[2]) }), "stands twice"},
		"table too large": {docker(func(f []archivetest.File) []archivetest.File {
			return replace(f, "manifest.json", make([]byte, manifest.MaxSize+1))
		}), "more than"},
		"table is no JSON": {docker(func(f []archivetest.File) []archivetest.File { return replace(f, "manifest.json", []byte(`{`)) }), "manifest.json"},
		"other config":     {docker(func(f []archivetest.File) []archivetest.File { return replace(f, f[0].Name, []byte(`{}`)) }), "does not match"},
		"layers not listed": {docker(func(f []archivetest.File) []archivetest.File {
			return replace(f, "manifest.json", []byte(`[{"Config":"`+f[0].Name+`"}]`))
		}), "its config lists 1 layers"},
		"index is no index": {func() []archivetest.File {
			return []archivetest.File{{Name: "index.json", Body: []byte(`{"config":{}}`)}}
		}, "index.json"},
		"no manifest": {layout(func(l *archivetest.Layout) {
			l.Name(manifest.Descriptor{MediaType: manifest.OCIManifest, Digest: manifest.DigestOf(nil), Size: 3})
		}), "is not in it"},
		"no layer": {func() []archivetest.File {
			l := archivetest.NewLayout()
			l.Name(l.Image(img, manifest.SHA256, nil))
			return slices.DeleteFunc(l.Files(), func(f archivetest.File) bool { return bytes.Equal(f.Body, img.Layers[0]) })
		}, "is not in it"},
		"lying size": {layout(func(l *archivetest.Layout) {
			d := l.Image(img, manifest.SHA256, nil)
			d.Size++
			l.Name(d)
		}), "should have"},
		"index of itself, deep": {layout(func(l *archivetest.Layout) {
			d := l.Image(img, manifest.SHA256, nil)
			for range 10 {
				d = l.Index(d)
			}
			l.Name(d)
		}), "deep"},
	} {
		a, err := tryOpen(t, c.files(), Options{})
		if err == nil {
			err = a.Images[0].Err
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q in it", name, err, c.says)
		}
	}
}

func TestTarsThatAreNone(t *testing.T) {
	whole := archivetest.Tar(archivetest.Docker(archivetest.New(1, 30_000), "x:1"))
	for name, c := range map[string]struct {
		bytes []byte
		says  string
	}{
		"empty":     {nil, "is empty"},
		"text":      {bytes.Repeat([]byte("no tar "), 200), "not a tar"},
		"zeros":     {make([]byte, 4096), "neither index.json"},
		"cut":       {whole[:10_000], "copied whole"},
		"zstd":      {append(bytes.Clone(magicZstd), whole...), "zstd -dc"},
		"bad gzip":  {[]byte("\x1f\x8b not gzip at all"), "gzip"},
		"cut gzip":  {[]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"), "TMPDIR"},
		"mid-block": {whole[:700], "copied whole"},
	} {
		path := filepath.Join(t.TempDir(), "a.tar")
		if err := os.WriteFile(path, c.bytes, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := Open(t.Context(), path, Options{})
		if err == nil {
			a.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q in it", name, err, c.says)
		}
	}
}

// A folder's links may not lead out of it, and what is no plain file holds nobody up.
func TestFolderDoesNotLeadOut(t *testing.T) {
	img := archivetest.New(1, 300)
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, img.Layers[0], 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(path string) error{
		"link": func(path string) error { return os.Symlink(outside, path) },
		"fifo": func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		dir := t.TempDir()
		files := archivetest.Docker(img, "x:1")
		if err := archivetest.WriteFolder(dir, files); err != nil {
			t.Fatal(err)
		}
		layer := filepath.Join(dir, files[1].Name)
		if err := errors.Join(os.Remove(layer), change(layer)); err != nil {
			t.Fatal(err)
		}
		a, err := Open(t.Context(), dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if a.Images[0].Err == nil {
			t.Errorf("%s: it was taken", name)
		}
		a.Close()
	}
}

// The archive is written to between the check and the sending.
func TestArchiveThatChangesIsNotSent(t *testing.T) {
	files := archivetest.Docker(archivetest.New(1, 300), "x:1")
	path := filepath.Join(t.TempDir(), "a.tar")
	if err := archivetest.WriteTar(path, files); err != nil {
		t.Fatal(err)
	}
	a, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	m := newMemory(t)
	m.fail = func(what string) error {
		if what == "blob" {
			return os.Chtimes(path, time.Time{}, time.Unix(1, 0))
		}
		return nil
	}
	_, err = put(t, m, a, "r/a:1")
	wantError(t, err, ErrArchive, "changed while it was read")
	if len(m.tags)+len(m.links) > 0 {
		t.Errorf("tags %v, links %v", m.tags, m.links)
	}
}

// temporary is an outage.
type temporary struct{ error }

func (temporary) Temporary() bool { return true }

func TestOutageIsWaitedFor(t *testing.T) {
	a := opened(t, archivetest.Docker(archivetest.New(1, 300), "x:1"))
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		over := time.Now().Add(20 * time.Second)
		m.fail = func(string) error {
			if time.Now().Before(over) {
				return temporary{errors.New("away")}
			}
			return nil
		}
		im := &Importer{Store: m, Patience: time.Minute}
		if _, err := im.Import(t.Context(), a.Images[0], []Target{{"r/a", "1"}}); err != nil {
			t.Error(err)
		}
		over = time.Now().Add(time.Hour)
		begun := time.Now()
		im = &Importer{Store: m, Patience: time.Minute}
		_, err := im.Import(t.Context(), a.Images[0], []Target{{"r/a", "1"}})
		wantError(t, err, nil, "away")
		if waited := time.Since(begun); waited > time.Minute {
			t.Errorf("it waited for %v", waited)
		}
	})
}

func TestWhatFailsIsNotTagged(t *testing.T) {
	a := opened(t, archivetest.Docker(archivetest.New(1, 300), "x:1"))
	for _, step := range []string{"stat", "blob", "link", "manifest", "tag"} {
		m := newMemory(t)
		m.fail = func(what string) error {
			if what == step {
				return errors.New("refused")
			}
			return nil
		}
		if _, err := put(t, m, a, "r/a:1"); err == nil || len(m.tags) > 0 {
			t.Errorf("%s refused: %v, tags %v", step, err, m.tags)
		}
	}
}

func TestNotesOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	n, err := OpenNotes(dir)
	if err != nil {
		t.Fatal(err)
	}
	d, other := manifest.DigestOf([]byte("a")), manifest.DigestOf([]byte("b"))
	n.keeper(d)("begun 1")
	n.keeper(d)("part 1")
	n.keeper(other)("begun 2")
	n.keeper(other)("")
	_, err = OpenNotes(dir)
	wantError(t, err, ErrNotesBusy, "another import")
	n.file.WriteString(`{"digest":"sha256:`) // killed while it wrote
	n.Close()
	for range 2 { // the second reads what the first wrote anew
		if n, err = OpenNotes(dir); err != nil {
			t.Fatal(err)
		}
		if got := n.of(d); !slices.Equal(got, []string{"begun 1", "part 1"}) || n.of(other) != nil {
			t.Errorf("%q, %q", got, n.of(other))
		}
		n.Close()
	}
}

func TestOldUploadsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	text := `{"digest":"` + manifest.DigestOf(nil).String() + `","note":"begun","at":"2020-01-01T00:00:00Z"}` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "uploads"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := OpenNotes(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	s := &abandoned{memory: newMemory(t)}
	n.Tidy(t.Context(), s)
	if !slices.Equal(s.notes, []string{"begun"}) || n.of(manifest.DigestOf(nil)) != nil {
		t.Errorf("%q were removed, %q are left", s.notes, n.of(manifest.DigestOf(nil)))
	}
}

type abandoned struct {
	*memory
	notes []string
}

func (a *abandoned) AbandonBlob(_ context.Context, _ manifest.Digest, notes []string) error {
	a.notes = append(a.notes, notes...)
	return nil
}

// FuzzTar holds that no tar makes the reader panic, read beyond the file, or hand out
// bytes that are not what its digest says.
func FuzzTar(f *testing.F) {
	img := archivetest.New(1, 300)
	l := archivetest.NewLayout()
	d := l.Image(img, manifest.SHA256, nil)
	l.Name(l.Index(d), "org.opencontainers.image.ref.name", "x:1")
	l.Name(l.Image(img, manifest.SHA512, &d))
	f.Add(archivetest.Tar(archivetest.Docker(img, "x:1")))
	f.Add(archivetest.Tar(l.Files()))
	f.Add(archivetest.Tar(append(l.Files(), archivetest.Docker(img, "y:1")...)))
	var sparse bytes.Buffer
	w := tar.NewWriter(&sparse)
	w.WriteHeader(&tar.Header{Name: "./manifest.json", Size: 2, Format: tar.FormatPAX, PAXRecords: map[string]string{"X.y": "z"}})
	w.Write([]byte("[]"))
	w.WriteHeader(&tar.Header{Name: "a", Typeflag: tar.TypeLink, Linkname: "manifest.json"})
	w.Close()
	f.Add(sparse.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "a.tar")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := Open(t.Context(), path, Options{TempDir: t.TempDir()})
		if err != nil {
			return
		}
		defer a.Close()
		m := newMemory(t)
		for _, img := range a.Images {
			(&Importer{Store: m}).Import(t.Context(), img, []Target{{"r/a", "1"}})
		}
	})
}
