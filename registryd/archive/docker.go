package archive

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	spec "github.com/opencontainers/image-spec/specs-go/v1"

	"hostlocal/manifest"
)

// dockerFile is the table of what docker save and podman save write.
const dockerFile = "manifest.json"

// A dockerTable lists the images of a Docker archive.
type dockerTable []dockerEntry

type dockerEntry struct {
	Config   string   // the file
	RepoTags []string // "debian:12"
	Layers   []string // the files, the base first
}

func readDocker(t tree) (dockerTable, error) {
	body, err := readSmall(t, dockerFile)
	if err != nil {
		return nil, err
	}
	table := dockerTable{}
	if err := json.Unmarshal(body, &table); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrArchive, dockerFile, err)
	}
	return table, nil
}

// namesOf returns the names of an image of a layout that this table lies beside.
func (table dockerTable) namesOf(img *Image) (names []string) {
	for _, e := range table {
		if slices.ContainsFunc(img.Manifests, func(m *manifest.Manifest) bool {
			return m.Config != nil && path.Clean(e.Config) == blobFile(m.Config.Digest)
		}) {
			names = append(names, e.RepoTags...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// dockerImages makes an image of each entry. A Docker archive keeps configs and
// layers, and no manifest; the one that is made here is what Docker writes since 25.
// Layers stay as they are: uncompressed they have the digests that the config lists,
// so that whoever imports the archive, with whatever version, gets the same image,
// and a second import finds it without reading a layer.
func dockerImages(ctx context.Context, t tree, table dockerTable) []*Image {
	var images []*Image
	byDigest := map[manifest.Digest]*Image{}
	for _, e := range table {
		img := dockerImage(ctx, t, e)
		if img.Err == nil {
			if same := byDigest[img.Root.Digest]; same != nil {
				img = same
			} else {
				byDigest[img.Root.Digest] = img
			}
		}
		if !slices.Contains(images, img) {
			images = append(images, img)
		}
		for _, name := range e.RepoTags {
			img.addName(name, "")
		}
	}
	return images
}

func dockerImage(ctx context.Context, t tree, e dockerEntry) *Image {
	img := &Image{Root: &manifest.Manifest{}, Built: true}
	if img.Err = img.build(ctx, t, e); errors.Is(img.Err, fs.ErrNotExist) {
		img.Err = fmt.Errorf("%w: %w", ErrArchive, img.Err)
	}
	return img
}

// build makes the manifest.
func (i *Image) build(ctx context.Context, t tree, e dockerEntry) error {
	body, err := readSmall(t, e.Config)
	if err != nil {
		return fmt.Errorf("its config: %w", err)
	}
	d := manifest.DigestOf(body)
	if said, ok := digestIn(e.Config); ok && said != d {
		return fmt.Errorf("its config %.100q: %w: want %s, got %s", e.Config, manifest.ErrMismatch, said, d)
	}
	var config struct {
		RootFS struct {
			DiffIDs []manifest.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(body, &config); err != nil {
		return fmt.Errorf("%w: its config %.100q: %w", ErrArchive, e.Config, err)
	}
	if n := len(config.RootFS.DiffIDs); n != len(e.Layers) || n > maxLayers {
		return fmt.Errorf("%w: its config lists %d layers, and %s %d", ErrArchive, n, dockerFile, len(e.Layers))
	}
	i.add(&Blob{Digest: d, Size: int64(len(body)), tree: t, file: e.Config})
	made := spec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: manifest.OCIManifest,
		Config:    describeBlob(spec.MediaTypeImageConfig, i.Blobs[0]),
		Layers:    []spec.Descriptor{},
	}
	for n, file := range e.Layers {
		b, mediaType, err := dockerLayer(ctx, t, file, config.RootFS.DiffIDs[n])
		if err != nil {
			return fmt.Errorf("its layer %d, %.100q: %w", n+1, file, err)
		}
		i.add(b)
		made.Layers = append(made.Layers, describeBlob(mediaType, b))
	}
	if body, err = json.Marshal(made); err != nil {
		return err
	}
	i.Root, err = manifest.Parse(body)
	i.Manifests = []*manifest.Manifest{i.Root}
	return err
}

// maxLayers bounds the layers of an entry: each costs a few reads. Engines refuse
// images of more than some 127.
const maxLayers = 4096

func (i *Image) add(b *Blob) {
	if !slices.ContainsFunc(i.Blobs, func(o *Blob) bool { return o.Digest == b.Digest }) {
		i.Blobs = append(i.Blobs, b)
	}
}

func describeBlob(mediaType string, b *Blob) spec.Descriptor {
	return spec.Descriptor{MediaType: mediaType, Digest: digest.Digest(b.Digest.String()), Size: b.Size}
}

// digestIn is the digest that a config's file name states: <hex>.json, or a layout's.
func digestIn(file string) (manifest.Digest, bool) {
	alg := manifest.SHA256
	if path.Base(path.Dir(file)) == string(manifest.SHA512) {
		alg = manifest.SHA512
	}
	d, err := manifest.ParseDigest(string(alg) + ":" + strings.TrimSuffix(path.Base(file), ".json"))
	return d, err == nil
}

// dockerLayer finds out what a layer is. Some tools compress them: the digest is then
// known only when it was read, and the config's is that of what is inside.
func dockerLayer(ctx context.Context, t tree, file string, diffID manifest.Digest) (*Blob, string, error) {
	c, err := t.open(file)
	if err != nil {
		return nil, "", err
	}
	defer c.close()
	if diffID.IsZero() {
		return nil, "", fmt.Errorf("%w: the config has no digest of it", ErrArchive)
	}
	head := make([]byte, 4)
	n, _ := io.ReadFull(c, head)
	switch head = head[:n]; {
	case bytes.HasPrefix(head, magicZstd):
		return nil, "", fmt.Errorf("%w: it is compressed with zstd, which a Docker archive cannot say; make an OCI archive: skopeo copy docker-archive:FILE oci-archive:NEW", ErrArchive)
	case !bytes.HasPrefix(head, magicGzip):
		return &Blob{Digest: diffID, Size: c.Size(), tree: t, file: file}, spec.MediaTypeImageLayer, nil
	}
	b := &Blob{Size: c.Size(), tree: t, file: file}
	if b.checked, err = c.stamp(); err != nil {
		return nil, "", err
	}
	if _, err := c.Seek(0, io.SeekStart); err != nil {
		return nil, "", err
	}
	outer, inner := manifest.SHA256.New(), diffID.Algorithm().New()
	packed := io.TeeReader(patient{ctx, c}, outer)
	unzip, err := gzip.NewReader(packed)
	if err == nil {
		_, err = io.Copy(inner, unzip)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, packed) // what follows the stream is the blob's too
	}
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrArchive, err)
	}
	if got := diffID.Algorithm().Sum(inner); got != diffID {
		return nil, "", fmt.Errorf("%w: its config says that it unpacks to %s, and it is %s", manifest.ErrMismatch, diffID, got)
	}
	b.Digest = manifest.SHA256.Sum(outer)
	return b, spec.MediaTypeImageLayerGzip, nil
}

// patient is a reader that ends with a context.
type patient struct {
	ctx context.Context
	r   io.Reader
}

func (p patient) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.r.Read(b)
}
