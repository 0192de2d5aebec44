package clients

import (
	"path/filepath"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"hostlocal/cmd/testdeps/need"
)

// The images, once a run: reading the layers to hash them takes seconds.
var images struct {
	once   sync.Once
	debian v1.ImageIndex // four layers, 30 MB, two platforms
	app    v1.Image      // one layer, 1 MB
	err    error
}

// makeImages returns an index like library/debian's and a small image.
func makeImages(t *testing.T) (debian v1.ImageIndex, app v1.Image) {
	t.Helper()
	files := need.Layers(t)
	images.once.Do(func() { images.debian, images.app, images.err = imagesOf(files) })
	if images.err != nil {
		t.Fatal(images.err)
	}
	return images.debian, images.app
}

func imagesOf(files []string) (v1.ImageIndex, v1.Image, error) {
	amd64, err := imageOf("amd64", files)
	if err != nil {
		return nil, nil, err
	}
	arm64, err := imageOf("arm64", files[:1])
	if err != nil {
		return nil, nil, err
	}
	app, err := imageOf("amd64", files[:1])
	if err != nil {
		return nil, nil, err
	}
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: amd64, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: arm64, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
	)
	return index, app, nil
}

// imageOf is an OCI image of the layers in files; the first one brings
// /bin/busybox, so that it can be run.
func imageOf(arch string, files []string) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, file := range files {
		layer, err := tarball.LayerFromFile(file, tarball.WithMediaType(types.OCILayer))
		if err != nil {
			return nil, err
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			return nil, err
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Config.Cmd = []string{"/bin/busybox", "sh"}
	config.Config.Labels = map[string]string{"layers": filepath.Base(files[len(files)-1])}
	return mutate.ConfigFile(img, config)
}
