// Package archive takes images out of files and puts them into a store, for hosts
// that no upstream can be reached from: tars of docker save and podman save, OCI
// image layouts as a folder or a tar, and folders of any of these.
//
//	file, folder, stdin ──> tree ──> layout ┐
//	                  (names, offsets)      ├──> Image ──> Importer ──> Store
//	                           └──> docker ─┘  manifests,   check, blobs, links,
//	                                           blobs        manifests, tags
//
// The invariant is that of a push: nothing is written under a digest that it does
// not have, and a tag only when all that it stands for is in. An image of which any
// byte in the archive is wrong or missing leaves nothing at all. Archives are what
// strangers send: names in them are looked up and never made a path, what is read
// into memory is bounded, and nothing is unpacked.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"hostlocal/manifest"
)

// ErrNoImages is wrapped by the error about what has no image in it.
var ErrNoImages = errors.New("no image archive")

// ErrArchive is wrapped by errors that say that an archive is damaged, or lies.
var ErrArchive = errors.New("the archive is damaged")

// Options are what Open may be told. The zero value takes everything.
type Options struct {
	// Platform has only this one be taken of an image that is for several.
	Platform *manifest.Platform
	// TempDir is where what cannot be read at any offset is kept while the archive
	// is open; "" is the system's.
	TempDir string
}

// An Archive is open until Close. Its images read from it as they are imported.
type Archive struct {
	Path   string // as it was named, or found below what was named
	Images []*Image
	tree   tree
}

// An Image is one image of an archive, of one platform or of many, with what refers
// to it. All of it that could be checked without reading the blobs was.
type Image struct {
	Names []string // as the archive has them: "debian:12", "ghcr.io/owner/app:v1"
	Tags  []string // where it says a tag alone

	Root      *manifest.Manifest
	Manifests []*manifest.Manifest // what lists comes after what it lists; Root is among them
	Blobs     []*Blob              // configs and layers, each once
	LeftOut   []string             // of an index, what the archive does not have, for people
	Built     bool                 // Root is not as it was pushed: a Docker archive does not keep that

	// Err is what is wrong with the image, and why it cannot be imported. Of the rest
	// nothing but the names is to be relied on then.
	Err error
}

// Size returns the bytes of the image's blobs.
func (i *Image) Size() (n int64) {
	for _, b := range i.Blobs {
		n += b.Size
	}
	return n
}

// A Blob is bytes that an archive has, or says that it has, under a digest.
type Blob struct {
	Digest manifest.Digest
	Size   int64 // of the file in the archive

	tree    tree
	file    string
	checked stamp // of the file when its bytes had the digest
}

// Open opens what path names: a tar, compressed or not; a layout's folder; "-" for
// standard input. What is wrong with a single image stands in its Err. The error
// wraps ErrNoImages if there is none, and ErrArchive if it cannot be read as what it
// seems to be.
func Open(ctx context.Context, path string, o Options) (*Archive, error) {
	t, err := openTree(ctx, path, o.TempDir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	a := &Archive{Path: path, tree: t}
	if a.Images, err = images(ctx, t, o.Platform); err != nil {
		t.close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return a, nil
}

// Close gives up what the archive held.
func (a *Archive) Close() error { return a.tree.close() }

// images reads what there is. Where an archive is both, a layout keeps the manifests
// as they were pushed, and Docker's own table may know names that it does not.
func images(ctx context.Context, t tree, p *manifest.Platform) ([]*Image, error) {
	docker, err := readDocker(t)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	index, err := readIndex(t)
	switch {
	case err == nil:
		return layoutImages(t, index, docker, p), nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case docker != nil:
		return dockerImages(ctx, t, docker), nil
	}
	return nil, fmt.Errorf("%w: it has neither index.json nor manifest.json; docker save, podman save and skopeo copy make what can be imported", ErrNoImages)
}

func openTree(ctx context.Context, path, temp string) (tree, error) {
	if path == "-" {
		return openStream(ctx, os.Stdin, temp)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return openFolder(path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return openStream(ctx, f, temp)
}
