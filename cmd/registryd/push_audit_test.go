package main

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"os"

	"hostlocal/manifest"
)

// keys are those of all objects, in order.
func (b s3Bucket) keys() []string { return b.Server.Keys() }

func (b s3Bucket) read(key string) ([]byte, bool) { return b.Server.Get(key) }

func (b folderBucket) keys() (keys []string) {
	root := filepath.Join(b.dir, "docker")
	filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			key, _ := filepath.Rel(b.dir, path)
			keys = append(keys, key)
		}
		return nil
	})
	return keys
}

func (b folderBucket) read(key string) ([]byte, bool) {
	data, err := os.ReadFile(filepath.Join(b.dir, key))
	return data, err == nil
}

// An openBucket is a bucket that can be looked into.
type openBucket interface {
	bucketServer
	keys() []string
	read(key string) ([]byte, bool)
}

// An auditor looks at a whole bucket while nobody writes to it: everything is what its
// digest says, and nothing is visible before what it is made of.
type auditor struct {
	bucket  openBucket
	there   map[string]bool                           // keys, at the last look
	right   map[string]bool                           // blobs whose bytes were compared
	parsed  map[manifest.Digest]*manifest.Manifest    // what was found under revisions
	skipped func(repo string, d manifest.Digest) bool // layers that were deleted on purpose; nil: none
	dangles func(repo string, d manifest.Digest) bool // manifests that a tag may stand for and that are gone; nil: none
}

func newAuditor(b openBucket) *auditor {
	return &auditor{bucket: b, right: map[string]bool{}, parsed: map[manifest.Digest]*manifest.Manifest{}}
}

const (
	blobsRoot = "docker/registry/v2/blobs/"
	reposRoot = "docker/registry/v2/repositories/"
)

func layerKey(repo string, d manifest.Digest) string {
	return fmt.Sprintf("%s%s/_layers/%s/%s/link", reposRoot, repo, d.Algorithm(), d.Hex())
}

func revisionKey(repo string, d manifest.Digest) string {
	return fmt.Sprintf("%s%s/_manifests/revisions/%s/%s/link", reposRoot, repo, d.Algorithm(), d.Hex())
}

// audit returns what is wrong first. Of mirrored repositories it says nothing: they
// have gaps by nature.
func (a *auditor) audit() error {
	keys := a.bucket.keys()
	a.there = make(map[string]bool, len(keys))
	for _, key := range keys {
		a.there[key] = true
	}
	for _, key := range keys {
		if err := a.object(key); err != nil {
			return err
		}
	}
	return nil
}

func (a *auditor) object(key string) error {
	if rest, ok := strings.CutPrefix(key, blobsRoot); ok {
		return a.blob(key, rest)
	}
	repo, what, ok := strings.Cut(strings.TrimPrefix(key, reposRoot), "/_")
	if !ok || !strings.HasPrefix(key, reposRoot) || strings.HasPrefix(repo, "docker.io/") {
		return nil
	}
	if !strings.HasSuffix(what, "/link") || strings.Contains(what, "/index/") {
		return nil
	}
	said, _ := a.bucket.read(key)
	d, err := manifest.ParseDigest(string(said))
	if err != nil {
		return fmt.Errorf("%s says %q", key, said)
	}
	switch {
	case strings.HasPrefix(what, "layers/"):
		if !strings.Contains(key, "/"+d.Hex()+"/") || !a.there[blobKey(d)] {
			return fmt.Errorf("%s links %s, whose bytes are not there", key, d)
		}
	case strings.HasPrefix(what, "manifests/revisions/"):
		if !strings.Contains(key, "/"+d.Hex()+"/") || !a.there[blobKey(d)] {
			return fmt.Errorf("%s links %s, whose bytes are not there", key, d)
		}
		return a.revision(repo, d)
	case strings.HasPrefix(what, "manifests/tags/"):
		if !a.there[revisionKey(repo, d)] && (a.dangles == nil || !a.dangles(repo, d)) {
			return fmt.Errorf("%s stands for %s, which is not visible there", key, d)
		}
	}
	return nil
}

func (a *auditor) blob(key, rest string) error {
	parts := strings.Split(rest, "/")
	if a.right[key] || len(parts) != 4 {
		return nil
	}
	d, err := manifest.ParseDigest(parts[0] + ":" + parts[2])
	if err != nil {
		return fmt.Errorf("%s is no place for a blob: %w", key, err)
	}
	data, _ := a.bucket.read(key)
	if err := d.Verify(data); err != nil {
		return fmt.Errorf("%s has %d bytes: %w", key, len(data), err)
	}
	a.right[key] = true
	return nil
}

// revision checks that all that a manifest is made of is visible beside it.
func (a *auditor) revision(repo string, d manifest.Digest) error {
	m := a.parsed[d]
	if m == nil {
		data, _ := a.bucket.read(blobKey(d))
		var err error
		if m, err = manifest.ParseAs(d, data); err != nil {
			return fmt.Errorf("manifest %s of %s: %w", d, repo, err)
		}
		a.parsed[d] = m
	}
	if m.IsIndex() {
		return nil
	}
	for _, b := range m.Blobs() {
		if a.skipped != nil && a.skipped(repo, b.Digest) {
			continue
		}
		if !a.there[layerKey(repo, b.Digest)] || !a.there[blobKey(b.Digest)] {
			return fmt.Errorf("manifest %s of %s names %s, which %s does not have", d, repo, b.Digest, repo)
		}
	}
	return nil
}
