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

// digestsOf is all that an index consists of, itself included.
func digestsOf(t *testing.T, index v1.ImageIndex) (manifests, blobs []v1.Hash) {
	t.Helper()
	top, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	manifests = []v1.Hash{digest}
	for _, desc := range top.Manifests {
		img, err := index.Image(desc.Digest)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		manifests = append(manifests, desc.Digest)
		blobs = append(blobs, manifest.Config.Digest)
		for _, layer := range manifest.Layers {
			blobs = append(blobs, layer.Digest)
		}
	}
	return manifests, blobs
}
