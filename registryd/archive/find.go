package archive

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	spec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxDepth bounds how deep archives are looked for below a folder.
	maxDepth = 8
	// maxFound bounds how many are taken from one.
	maxFound = 10_000
)

// Find returns what is to be opened for a path that somebody named: the path itself if
// it is a file, "-" or a layout's folder, else the archives and layouts below it, in
// the order of their names. A folder without any is an error that wraps ErrNoImages.
func Find(ctx context.Context, path string) ([]string, error) {
	if path == "-" {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() || holdsImages(path) {
		return []string{path}, nil
	}
	var found []string
	err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(path, name)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		case d.IsDir() && strings.Count(rel, string(filepath.Separator)) >= maxDepth:
			return fs.SkipDir
		case d.IsDir() && name != path && holdsImages(name):
			found = append(found, name)
			err = fs.SkipDir
		case !d.IsDir() && looksLikeTar(name):
			found = append(found, name)
		}
		if len(found) > maxFound {
			return fmt.Errorf("%s has more than %d archives; import its folders one by one", path, maxFound)
		}
		return err
	})
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%s: %w: neither a layout nor a file .tar, .tar.gz or .tgz lies below it", path, ErrNoImages)
	}
	return found, err
}

// holdsImages reports whether a folder is a layout, or an unpacked Docker archive.
func holdsImages(dir string) bool {
	for _, name := range []string{spec.ImageLayoutFile, dockerFile} {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode().IsRegular() {
			return true
		}
	}
	return false
}

// looksLikeTar goes by the name: a folder may hold checksums, and files of others.
func looksLikeTar(name string) bool {
	lower := strings.ToLower(name)
	for _, end := range []string{".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2"} {
		if strings.HasSuffix(lower, end) {
			info, err := os.Stat(name)
			return err != nil || info.Mode().IsRegular() // one that cannot be read is told of, when it is opened
		}
	}
	return false
}
