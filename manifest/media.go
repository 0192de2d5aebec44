package manifest

import (
	"github.com/distribution/distribution/v3/manifest/manifestlist"
	"github.com/distribution/distribution/v3/manifest/schema2"
	spec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of manifests and indexes, Docker's and OCI's.
const (
	DockerManifest = schema2.MediaTypeManifest
	DockerList     = manifestlist.MediaTypeManifestList
	OCIManifest    = spec.MediaTypeImageManifest
	OCIIndex       = spec.MediaTypeImageIndex
)

// MaxSize is the most bytes that a manifest may have. The OCI distribution
// specification has registries accept at least 4 MiB, and every large registry
// refuses more.
const MaxSize = 4 << 20

// MaxDescriptors is the most layers or entries that one manifest may list. A
// manifest of MaxSize cannot reach it with descriptors that have all three
// required fields (150 bytes each at the least), so it refuses no image; it keeps
// what a crafted body makes us allocate below 8 MiB.
const MaxDescriptors = 1 << 15

// IsManifestType reports whether mediaType is one of the four that Parse knows.
func IsManifestType(mediaType string) bool {
	switch mediaType {
	case DockerManifest, DockerList, OCIManifest, OCIIndex:
		return true
	}
	return false
}
