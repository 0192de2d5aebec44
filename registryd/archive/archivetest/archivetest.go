// Package archivetest makes archives of images for tests: what docker save wrote before
// Docker 25 and what it writes since, and OCI layouts, as files that a test may change
// before it puts them into a tar or a folder.
//
//	img := archivetest.New(1, 300, 2<<20)
//	archivetest.WriteTar(path, archivetest.Docker(img, "debian:12"))
package archivetest

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"hostlocal/manifest"
)

// An Image is an image of one platform.
type Image struct {
	Config []byte
	Layers [][]byte // tars
}

// New makes an image with a layer for each size, about so many bytes each. The same
// seed gives the same image.
func New(seed uint64, sizes ...int64) Image {
	var img Image
	var ids []manifest.Digest
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	for _, n := range sizes {
		var layer bytes.Buffer
		w := tar.NewWriter(&layer)
		must(w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: n}))
		_, err := io.CopyN(w, random, n)
		must(err)
		must(w.Close())
		img.Layers = append(img.Layers, layer.Bytes())
		ids = append(ids, manifest.DigestOf(layer.Bytes()))
	}
	config, err := json.Marshal(map[string]any{
		"os": "linux", "architecture": "amd64", "created": fmt.Sprintf("2020-01-01T00:00:%02dZ", seed%60),
		"config": map[string]any{}, "rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
	must(err)
	img.Config = config
	return img
}

// A File is one of an archive's.
type File struct {
	Name string
	Body []byte
	Link string // of a symbolic link, instead of a Body
}

// Docker is what docker save wrote before Docker 25: a folder a layer, and no
// manifest. A layer that two images share is a link in the second one.
func Docker(img Image, names ...string) []File { return DockerAll([]Image{img}, names) }

// DockerAll is Docker of several images, the how manieth under which names.
func DockerAll(images []Image, names ...[]string) (files []File) {
	type entry struct {
		Config           string
		RepoTags, Layers []string
	}
	var table []entry
	first := map[manifest.Digest]string{}
	for i, img := range images {
		e := entry{Config: manifest.DigestOf(img.Config).Hex() + ".json", RepoTags: names[i]}
		files = append(files, File{Name: e.Config, Body: img.Config})
		for n, layer := range img.Layers {
			d := manifest.DigestOf(layer)
			dir := manifest.DigestOf(fmt.Append(nil, i, n)).Hex()
			f := File{Name: dir + "/layer.tar", Body: layer}
			if other, ok := first[d]; ok {
				f.Body, f.Link = nil, "../"+other
			} else {
				first[d] = f.Name
			}
			files = append(files, f)
			e.Layers = append(e.Layers, f.Name)
		}
		table = append(table, e)
	}
	return append(files, File{Name: "manifest.json", Body: encode(table)})
}

// A Layout is an OCI layout that is being made.
type Layout struct {
	blobs map[string][]byte
	order []string
	table []manifest.Descriptor
}

// NewLayout makes an empty one.
func NewLayout() *Layout { return &Layout{blobs: map[string][]byte{}} }

// Add puts a blob in, by the algorithm.
func (l *Layout) Add(alg manifest.Algorithm, mediaType string, body []byte) manifest.Descriptor {
	h := alg.New()
	h.Write(body)
	d := manifest.Descriptor{MediaType: mediaType, Digest: alg.Sum(h), Size: int64(len(body))}
	name := "blobs/" + string(alg) + "/" + d.Digest.Hex()
	if _, ok := l.blobs[name]; !ok {
		l.order = append(l.order, name)
	}
	l.blobs[name] = body
	return d
}

// Image puts an image in, and what it refers to if that is not nil.
func (l *Layout) Image(img Image, alg manifest.Algorithm, subject *manifest.Descriptor) manifest.Descriptor {
	m := map[string]any{
		"schemaVersion": 2, "mediaType": manifest.OCIManifest,
		"config": l.Add(alg, "application/vnd.oci.image.config.v1+json", img.Config),
	}
	layers := []manifest.Descriptor{}
	for _, layer := range img.Layers {
		layers = append(layers, l.Add(alg, "application/vnd.oci.image.layer.v1.tar", layer))
	}
	m["layers"] = layers
	if subject != nil {
		m["subject"], m["artifactType"] = subject, "application/vnd.test"
	}
	return l.Add(alg, manifest.OCIManifest, encode(m))
}

// Index puts an index of entries in.
func (l *Layout) Index(entries ...manifest.Descriptor) manifest.Descriptor {
	return l.Add(manifest.SHA256, manifest.OCIIndex, encode(map[string]any{
		"schemaVersion": 2, "mediaType": manifest.OCIIndex, "manifests": entries,
	}))
}

// Name lists d in the layout's table, with annotations as key and value.
func (l *Layout) Name(d manifest.Descriptor, annotations ...string) {
	d.Annotations = map[string]string{}
	for i := 0; i < len(annotations); i += 2 {
		d.Annotations[annotations[i]] = annotations[i+1]
	}
	l.table = append(l.table, d)
}

// Files returns the layout's files.
func (l *Layout) Files() []File {
	files := []File{
		{Name: "oci-layout", Body: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{Name: "index.json", Body: encode(map[string]any{"schemaVersion": 2, "manifests": l.table})},
	}
	for _, name := range l.order {
		files = append(files, File{Name: name, Body: l.blobs[name]})
	}
	return files
}

// Tar makes a tar of files.
func Tar(files []File) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.Name, Mode: 0o644, Size: int64(len(f.Body))}
		if f.Link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
		}
		must(w.WriteHeader(h))
		_, err := w.Write(f.Body)
		must(err)
	}
	must(w.Close())
	return b.Bytes()
}

// WriteTar writes a tar of files.
func WriteTar(path string, files []File) error { return os.WriteFile(path, Tar(files), 0o600) }

// WriteFolder writes the files below dir.
func WriteFolder(dir string, files []File) error {
	for _, f := range files {
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if f.Link != "" {
			if err := os.Symlink(f.Link, path); err != nil {
				return err
			}
		} else if err := os.WriteFile(path, f.Body, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	must(err)
	return b
}

// must is for what cannot fail: these are buffers.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
