package manifest

// Media types of manifests and indexes, Docker's and OCI's.
const (
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	OCIManifest    = "application/vnd.oci.image.manifest.v1+json"
	OCIIndex       = "application/vnd.oci.image.index.v1+json"
)

// MaxSize is the most bytes that a manifest may have. The OCI distribution
// specification has registries accept at least 4 MiB, and every large registry
// refuses more.
const MaxSize = 4 << 20
