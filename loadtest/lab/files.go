package lab

import (
	"io"
	"os"
	"path/filepath"

	"hostlocal/loadtest/hub"
	"hostlocal/loadtest/target"
	"hostlocal/manifest"
)

// writeFiles puts the content of the images into files below dir, as a static file
// server wants them.
func writeFiles(dir string, all []hub.Image) (*target.Files, error) {
	f := &target.Files{Dir: dir}
	if err := os.MkdirAll(filepath.Join(dir, string(manifest.SHA256)), 0o755); err != nil {
		return nil, err
	}
	for _, img := range all {
		if err := addFiles(f, img); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func addFiles(f *target.Files, img hub.Image) error {
	if err := writeBlob(f.Dir, hub.Literal(img.Body)); err != nil {
		return err
	}
	f.Manifests = append(f.Manifests, target.Manifest{Repo: img.Repo, Tag: img.Tag, Digest: img.Digest, MediaType: img.MediaType})
	for _, part := range img.Images { // of an index; attestations are never pulled
		if err := addFiles(f, part); err != nil {
			return err
		}
	}
	if len(img.Images) > 0 {
		return nil
	}
	for _, c := range append(img.Layers[:len(img.Layers):len(img.Layers)], img.Config) {
		if err := writeBlob(f.Dir, c); err != nil {
			return err
		}
	}
	return nil
}

// writeBlob writes content that is not there yet.
func writeBlob(dir string, c hub.Content) error {
	file, err := os.OpenFile(filepath.Join(dir, string(c.Digest.Algorithm()), c.Digest.Hex()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if os.IsExist(err) {
		return nil // several images have it
	}
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, c.Reader()); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}
