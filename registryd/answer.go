package registryd

import "hostlocal/manifest"

// A Ref is what stands behind /manifests/ in a request: a tag or a digest, one of
// them.
type Ref struct {
	Tag    string
	Digest manifest.Digest
}

// String returns the reference as it stands in a URL.
func (r Ref) String() string {
	if r.Tag != "" {
		return r.Tag
	}
	return r.Digest.String()
}

// The words of X-Registryd-Source for what is not a fill: blobcache says those of
// blobs itself.
const (
	SourceDisk     = "disk"     // complete on this host, memory included
	SourceFill     = "fill"     // fetched for this disk just now
	SourceStore    = "store"    // passed on from the bucket, nothing kept
	SourceUpstream = "upstream" // passed on from the upstream, nothing kept
)

// An Answer is what a manifest request is answered with. Close it. The manifest is
// shared: nobody writes to it.
type Answer struct {
	// Manifest is never nil. Asked for a HEAD only, Body may be nil because
	// the bytes are not here, or because they are in Large; Digest and MediaType
	// are set all the same.
	Manifest *manifest.Manifest
	// Large has the bytes of a manifest of more than manifest.Small: its file, so
	// that a slow client does not keep 4 MiB in memory. nil: they are in the Body.
	Large  hold
	Size   int64  // bytes: the Content-Length, also where Body is nil
	Source string // one of the Source constants
	// Warning is the whole value of a Warning header, or empty: what is served
	// was not confirmed within the time that the tag's policy allows.
	Warning string
}

// Close gives back what the answer holds.
func (a Answer) Close() {
	if a.Large != nil {
		a.Large.Close()
	}
}
