package target

import (
	"fmt"
	"path/filepath"
	"strings"

	"hostlocal/manifest"
)

// Files is the content of images in place: a folder with a file for each digest,
// named by its hex, and which manifests there are. The lab makes it; what makes it
// removes it.
type Files struct {
	Dir       string // of the blobs: Dir/<alg>/<hex>
	Manifests []Manifest
}

// A Manifest is one that clients ask for, by its digest and perhaps by a tag.
type Manifest struct {
	Repo      string
	Tag       string // "" if it has none
	Digest    manifest.Digest
	MediaType string
}

// locations is the part of an nginx server that answers for the files. Manifests
// are named one by one, because each has its media type and digest in the header.
func (f *Files) locations() string {
	var b strings.Builder
	b.WriteString("    location = /v2/ { return 200 \"{}\"; }\n")
	fmt.Fprintf(&b, "    location ~ \"^/v2/.+/blobs/sha256:([0-9a-f]{64})$\" { default_type application/octet-stream; alias %s/$1; }\n",
		filepath.Join(f.Dir, "sha256"))
	for _, m := range f.Manifests {
		names := []string{m.Digest.String()}
		if m.Tag != "" {
			names = append(names, m.Tag)
		}
		for _, name := range names {
			fmt.Fprintf(&b, "    location = /v2/%s/manifests/%s { default_type %s; add_header Docker-Content-Digest %s; alias %s; }\n",
				m.Repo, name, m.MediaType, m.Digest, filepath.Join(f.Dir, string(m.Digest.Algorithm()), m.Digest.Hex()))
		}
	}
	return b.String()
}
