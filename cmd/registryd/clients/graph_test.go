package clients

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// amd64Of returns the index's image for the platform that the tests run on.
func amd64Of(t *testing.T, index v1.ImageIndex) v1.Image {
	t.Helper()
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, desc := range manifest.Manifests {
		if desc.Platform != nil && desc.Platform.Architecture == "amd64" {
			img, err := index.Image(desc.Digest)
			if err != nil {
				t.Fatal(err)
			}
			return img
		}
	}
	t.Fatal("the index has no image for amd64")
	return nil
}

// layersSize is how many bytes a client must get at least to have the image.
func layersSize(t *testing.T, img v1.Image) int64 {
	t.Helper()
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, layer := range manifest.Layers {
		size += layer.Size
	}
	return size
}

// largestLayer is the layer that a pull spends its time on.
func largestLayer(t *testing.T, img v1.Image) v1.Descriptor {
	t.Helper()
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	largest := manifest.Layers[0]
	for _, layer := range manifest.Layers {
		if layer.Size > largest.Size {
			largest = layer
		}
	}
	return largest
}

// digestsOf is everything that an index leads to, itself not included.
func digestsOf(t *testing.T, index v1.ImageIndex) []v1.Hash {
	t.Helper()
	top, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var digests []v1.Hash
	for _, desc := range top.Manifests {
		img, err := index.Image(desc.Digest)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, desc.Digest, manifest.Config.Digest)
		for _, layer := range manifest.Layers {
			digests = append(digests, layer.Digest)
		}
	}
	return digests
}
