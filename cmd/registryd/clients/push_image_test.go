package clients

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"hostlocal/cmd/testdeps/need"
)

// local is an image that no registry has, in the forms that clients take one.
// Its own layer is like nobody else's, so that a client which has seen others
// must move it; the layer below can be run, and is the same in all.
type local struct {
	hello string // what /hello says, once in the world
	tar   string // as docker save writes it
	oci   string // a layout whose one tag is v1
	build string // a folder with a Dockerfile that makes about the same
}

const (
	// smallBulk goes in one request to a bucket.
	smallBulk = 64 << 10
	// largeBulk goes to it in parts.
	largeBulk = 12 << 20
)

// makeLocal makes an image with so many incompressible bytes, to be pushed as ref.
func makeLocal(t *testing.T, hello string, bulk int, ref string) local {
	t.Helper()
	dir := scratch(t)
	l := local{hello: hello, tar: filepath.Join(dir, "image.tar"), oci: filepath.Join(dir, "oci"), build: filepath.Join(dir, "build")}
	base := need.Layers(t)[0]
	if err := l.write(base, ref, bulk); err != nil {
		t.Fatalf("making an image: %v", err)
	}
	return l
}

func (l local) write(base, ref string, bulk int) error {
	content := make([]byte, bulk)
	var seed [32]byte
	copy(seed[:], fmt.Sprintf("%d %s", len(l.hello), l.hello))
	rand.NewChaCha8(seed).Read(content)
	files := map[string][]byte{"hello": []byte(l.hello + "\n"), "bulk": content}

	img, err := imageOf("amd64", []string{base})
	if err != nil {
		return err
	}
	own, err := layerOf(files)
	if err != nil {
		return err
	}
	if img, err = mutate.AppendLayers(img, own); err != nil {
		return err
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		return err
	}
	if err := tarball.WriteToFile(l.tar, tag, img); err != nil {
		return err
	}
	path, err := layout.Write(l.oci, empty.Index)
	if err != nil {
		return err
	}
	if err := path.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "v1"})); err != nil {
		return err
	}
	return l.writeBuild(base, files)
}

func layerOf(files map[string][]byte) (v1.Layer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
}

func (l local) writeBuild(base string, files map[string][]byte) error {
	if err := os.Mkdir(l.build, 0o755); err != nil {
		return err
	}
	files["Dockerfile"] = []byte("FROM scratch\nADD busybox.tar.gz /\nCOPY hello bulk /\n")
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(l.build, name), content, 0o644); err != nil {
			return err
		}
	}
	return os.Link(base, filepath.Join(l.build, "busybox.tar.gz"))
}
