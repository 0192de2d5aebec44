package archive

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hostlocal/manifest"
	"hostlocal/registryd/archive/archivetest"
)

func TestDockerArchiveGetsAManifest(t *testing.T) {
	img := archivetest.New(1, 300, 5000)
	a := opened(t, archivetest.Docker(img, "debian:12", "ghcr.io/x/y:v1"))
	wantNames(t, a.Images[0], "debian:12", "ghcr.io/x/y:v1")
	m := newMemory(t)
	r, err := put(t, m, a, "r/a:1", "r/a:2", "r/b:1")
	if err != nil || r.Sent != 3 || r.There != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, tag := range []string{"r/a:1", "r/a:2", "r/b:1"} {
		m.wantIn(tag, img)
	}
	if !a.Images[0].Built || a.Images[0].Root.MediaType != manifest.OCIManifest {
		t.Errorf("%+v", a.Images[0].Root)
	}
}

func TestSecondImportOnlyLooks(t *testing.T) {
	files := archivetest.Docker(archivetest.New(1, 300, 5000), "debian:12")
	m := newMemory(t)
	if _, err := put(t, m, opened(t, files), "r/a:1"); err != nil {
		t.Fatal(err)
	}
	m.writes = 0
	r, err := put(t, m, opened(t, files), "r/a:1")
	if err != nil || r.Sent != 0 || r.There != 3 || m.writes != 0 {
		t.Errorf("%+v, %v, %d writes", r, err, m.writes)
	}
}

func TestImagesThatShareALayerSendItOnce(t *testing.T) {
	a, b := archivetest.New(1, 300, 5000), archivetest.New(2, 700)
	b.Layers = append([][]byte{a.Layers[0]}, b.Layers...)
	b.Config = bytes.Replace(b.Config, []byte(`"diff_ids":[`), []byte(`"diff_ids":["`+manifest.DigestOf(a.Layers[0]).String()+`",`), 1)
	ar := opened(t, archivetest.DockerAll([]archivetest.Image{a, b}, []string{"a:1"}, []string{"b:1"}))
	m := newMemory(t)
	im := &Importer{Store: m}
	for i, img := range ar.Images {
		if _, err := im.Import(t.Context(), img, []Target{{"r/" + string(rune('a'+i)), "1"}}); err != nil {
			t.Fatal(err)
		}
	}
	m.wantIn("r/a:1", a)
	m.wantIn("r/b:1", b)
	if m.sends != 5 {
		t.Errorf("%d bodies were sent, want 5", m.sends)
	}
}

func TestLayoutKeepsItsManifests(t *testing.T) {
	for _, alg := range []manifest.Algorithm{manifest.SHA256, manifest.SHA512} {
		img := archivetest.New(1, 300, 5000)
		l := archivetest.NewLayout()
		d := l.Image(img, alg, nil)
		l.Name(d, "org.opencontainers.image.ref.name", "12", "io.containerd.image.name", "docker.io/library/debian:12")
		l.Name(d, "org.opencontainers.image.ref.name", "v2")
		a := opened(t, l.Files())
		wantNames(t, a.Images[0], "docker.io/library/debian:12")
		if !slices.Equal(a.Images[0].Tags, []string{"v2"}) {
			t.Errorf("tags %q", a.Images[0].Tags)
		}
		m := newMemory(t)
		if _, err := put(t, m, a, "r/a:1"); err != nil {
			t.Fatal(err)
		}
		m.wantIn("r/a:1", img)
		if m.tags["r/a:1"] != d.Digest {
			t.Errorf("the tag means %s, want %s", m.tags["r/a:1"], d.Digest)
		}
	}
}

// Docker 25 and later write a layout with the old table beside it.
func TestLayoutIsPreferredToDockersTable(t *testing.T) {
	img := archivetest.New(1, 300)
	l := archivetest.NewLayout()
	d := l.Image(img, manifest.SHA256, nil)
	l.Name(d)
	config := "blobs/sha256/" + manifest.DigestOf(img.Config).Hex()
	files := append(l.Files(), archivetest.File{Name: "manifest.json",
		Body: []byte(`[{"Config":"` + config + `","RepoTags":["debian:12"],"Layers":["blobs/sha256/` + manifest.DigestOf(img.Layers[0]).Hex() + `"]}]`)})
	a := opened(t, files)
	wantNames(t, a.Images[0], "debian:12")
	if a.Images[0].Root.Digest != d.Digest || a.Images[0].Built {
		t.Error("the manifest is not the layout's")
	}
}

// docker save of an image of which the host has one platform.
func TestIndexMayLackPlatforms(t *testing.T) {
	img, other := archivetest.New(1, 300), archivetest.New(2, 400)
	l := archivetest.NewLayout()
	amd, arm := l.Image(img, manifest.SHA256, nil), l.Image(other, manifest.SHA256, nil)
	amd.Platform, arm.Platform = &manifest.Platform{OS: "linux", Architecture: "amd64"}, &manifest.Platform{OS: "linux", Architecture: "arm64"}
	l.Name(l.Index(amd, arm), "org.opencontainers.image.ref.name", "x:1")
	without := func(ds ...manifest.Digest) []archivetest.File {
		return slices.DeleteFunc(l.Files(), func(f archivetest.File) bool {
			return slices.ContainsFunc(ds, func(d manifest.Digest) bool { return strings.HasSuffix(f.Name, d.Hex()) })
		})
	}
	layer, config := manifest.DigestOf(other.Layers[0]), manifest.DigestOf(other.Config)
	for name, files := range map[string][]archivetest.File{
		"manifest": without(arm.Digest, layer, config),
		"layers":   without(layer),
		"blobs":    without(layer, config),
	} {
		a := opened(t, files)
		m := newMemory(t)
		if _, err := put(t, m, a, "r/a:1"); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := a.Images[0].LeftOut; !slices.Equal(got, []string{"linux/arm64"}) {
			t.Errorf("%s: left out %q", name, got)
		}
		if len(m.blobs) != 4 {
			t.Errorf("%s: %d blobs and manifests are in, want 4", name, len(m.blobs))
		}
	}
	a, err := tryOpen(t, l.Files(), Options{Platform: arm.Platform})
	if err != nil || len(a.Images[0].Blobs) != 2 || a.Images[0].Blobs[0].Digest != config {
		t.Errorf("--platform: %v, %v", a, err)
	}
	a = opened(t, without(manifest.DigestOf(img.Layers[0]), layer))
	wantError(t, a.Images[0].Err, nil, "none of the images")
	a = opened(t, without(amd.Digest, arm.Digest))
	wantError(t, a.Images[0].Err, nil, "none of the images")
}

func TestReferrersGoWithTheirImage(t *testing.T) {
	img, sig, more := archivetest.New(1, 300), archivetest.New(2, 40), archivetest.New(3, 50)
	l := archivetest.NewLayout()
	d := l.Image(img, manifest.SHA256, nil)
	s := l.Image(sig, manifest.SHA256, &d)
	s2 := l.Image(more, manifest.SHA256, &s) // a signature's own
	l.Name(s2)
	l.Name(s)
	l.Name(d, "org.opencontainers.image.ref.name", "x:1")
	m := newMemory(t)
	if _, err := put(t, m, opened(t, l.Files()), "r/a:1"); err != nil {
		t.Fatal(err)
	}
	m.wantIn("r/a:1", img)
	slices.Sort(m.refs)
	want := []string{"r/a " + d.Digest.String() + " " + s.Digest.String() + " application/vnd.test", "r/a " + s.Digest.String() + " " + s2.Digest.String() + " application/vnd.test"}
	slices.Sort(want)
	if !slices.Equal(m.refs, want) {
		t.Errorf("referrers %q, want %q", m.refs, want)
	}
}

func TestCompressedArchivesAndFolders(t *testing.T) {
	img := archivetest.New(1, 300)
	files := archivetest.Docker(img, "debian:12")
	dir := t.TempDir()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	w.Write(archivetest.Tar(files))
	w.Close()
	if err := os.WriteFile(filepath.Join(dir, "b.tgz"), packed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	l := archivetest.NewLayout()
	l.Name(l.Image(img, manifest.SHA256, nil))
	for sub, files := range map[string][]archivetest.File{"deep/docker": files, "layout": l.Files()} {
		if err := archivetest.WriteFolder(filepath.Join(dir, sub), files); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte("no archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := Find(t.Context(), dir)
	if err != nil || !slices.Equal(found, []string{dir + "/b.tgz", dir + "/deep/docker", dir + "/layout"}) {
		t.Fatalf("%q, %v", found, err)
	}
	temp := t.TempDir()
	for _, path := range found {
		a, err := Open(t.Context(), path, Options{TempDir: temp})
		if err != nil {
			t.Fatal(err)
		}
		m := newMemory(t)
		if _, err := put(t, m, a, "r/a:1"); err != nil {
			t.Fatal(err)
		}
		m.wantIn("r/a:1", img)
		a.Close()
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("%v stays in TMPDIR", left)
	}
	_, err = Find(t.Context(), t.TempDir())
	wantError(t, err, ErrNoImages, "neither a layout nor")
}

// Some tools compress the layers of a Docker archive.
func TestDockerArchiveWithCompressedLayers(t *testing.T) {
	img := archivetest.New(1, 3000)
	files := archivetest.Docker(img, "a:1")
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	w.Write(img.Layers[0])
	w.Close()
	files[1].Body = packed.Bytes()
	m := newMemory(t)
	a := opened(t, files)
	if _, err := put(t, m, a, "r/a:1"); err != nil {
		t.Fatal(err)
	}
	m.wantIn("r/a:1", archivetest.Image{Config: img.Config, Layers: [][]byte{packed.Bytes()}})
	files[1].Body = packed.Bytes()[:packed.Len()-9]
	wantError(t, opened(t, files).Images[0].Err, ErrArchive, "unexpected EOF")
	packed.Reset()
	w.Reset(&packed)
	w.Write([]byte("something else"))
	w.Close()
	files[1].Body = packed.Bytes()
	wantError(t, opened(t, files).Images[0].Err, manifest.ErrMismatch, "its config says")
}
