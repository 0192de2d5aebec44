package loadtest

import (
	"math/rand/v2"
	"strings"

	"hostlocal/manifest"
)

// A profile is how one kind of client pulls: what it sends, how many connections
// it opens. What they have in common is in pull.go. Measured on the wire with the
// clients named.
type profile struct {
	agent    string
	ping     bool   // GET /v2/ first
	head     bool   // HEAD of a tag, then GET of its digest; else GET of the tag
	ns       bool   // ?ns= on every request, where the target has a namespace
	close    bool   // a new connection for every request
	first    bool   // the config before the layers; else beside them
	layers   int    // blobs at a time
	encoding string // Accept-Encoding
	from     bool   // Range: bytes=0- on every GET, and ranges of large layers at once
	lazy     bool   // layers are not read whole
	accept   func(r *rand.Rand, method, mediaType string) []string
}

// maxAtOnce is the most connections that one client has: containerd's ranges of
// three layers.
const maxAtOnce = 3 * rangesAtOnce

var profiles = map[string]profile{
	// docker 20.10 to 28 with its own image store: the same in all of them. The
	// config is fetched beside three layers.
	"docker-classic": {
		agent: "docker/28.5.2 go/go1.24.9 git-commit/5cc4d22 kernel/6.12 os/linux arch/amd64 UpstreamClient(Docker-Client/28.5.2 \\(linux\\))",
		ping:  true, head: true, close: true, layers: 3, encoding: "gzip",
		accept: func(r *rand.Rand, _, _ string) []string {
			lines := []string{"application/json", manifest.OCIManifest, manifest.OCIIndex, manifest.DockerManifest,
				manifest.DockerList, "application/vnd.docker.distribution.manifest.v1+prettyjws"}
			r.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] }) // its order is a Go map's
			return lines
		},
	},
	// containerd 2.x, and docker 29, which pulls with it.
	"containerd": containerd,
	"containerd-2.1-ranges": func() profile {
		p := containerd
		p.from = true
		return p
	}(),
	// podman 5 and skopeo 1.22. A mirror of several upstreams has a path for each,
	// which is the target's Prefix.
	"podman": {
		agent: "containers/5.36.2 (github.com/containers/image)",
		ping:  true, first: true, layers: 6, encoding: "gzip",
		accept: func(*rand.Rand, string, string) []string {
			return []string{manifest.OCIManifest, manifest.DockerManifest, "application/vnd.docker.distribution.manifest.v1+prettyjws",
				"application/vnd.docker.distribution.manifest.v1+json", manifest.DockerList, manifest.OCIIndex}
		},
	},
	// stargz-snapshotter beneath containerd.
	"lazy": func() profile {
		p := containerd
		p.lazy = true
		return p
	}(),
}

var containerd = profile{
	agent: "containerd/2.1.9", head: true, ns: true, layers: 3, encoding: "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5",
	accept: func(_ *rand.Rand, method, mediaType string) []string {
		if method == "HEAD" || mediaType == "" {
			return []string{strings.Join([]string{manifest.DockerManifest, manifest.DockerList, manifest.OCIManifest, manifest.OCIIndex, "*/*"}, ", ")}
		}
		return []string{mediaType + ", */*"}
	},
}
