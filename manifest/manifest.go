// Package manifest is the vocabulary of images that every other package speaks:
// Digest, Reference, Descriptor and Platform, the manifests and indexes that
// are made of them, Walk over the graph that they form, and Names, which says
// what repository a client means.
//
//	Reference ──tag──> index ──platform──> manifest ──> config
//	                     └─ digest, size ─┘        └──> layers
//
// Everything here holds one invariant: a value in hand is valid. What strangers
// send becomes a value of this package only by parsing, and parsing refuses
// what is malformed, too large or too deep. The package imports none of its
// siblings and does no I/O.
package manifest

// A Manifest is a parsed manifest or index of any of the four media types. It is
// shared by all who ask for it: nobody writes to it.
type Manifest struct {
	Digest       Digest
	MediaType    string // one of DockerManifest, DockerList, OCIManifest, OCIIndex: read from the bytes
	ArtifactType string
	Body         []byte       // exactly the bytes that Digest names
	Config       *Descriptor  // nil in an index
	Layers       []Descriptor // of a manifest
	Manifests    []Descriptor // of an index
	Subject      *Descriptor  // what this one refers to, if anything
	Annotations  map[string]string
}

// IsIndex reports whether m lists manifests rather than layers.
func (m *Manifest) IsIndex() bool { return m.MediaType == OCIIndex || m.MediaType == DockerList }

// Blobs returns what an image consists of besides its manifest: its config, then
// its layers. An index has none.
func (m *Manifest) Blobs() []Descriptor {
	if m.Config == nil {
		return nil
	}
	return append([]Descriptor{*m.Config}, m.Layers...)
}

// Children returns the entries of an index; an image has none. Nobody writes to
// them.
func (m *Manifest) Children() []Descriptor { return m.Manifests }

// Descriptor returns what others say of m when they list it.
func (m *Manifest) Descriptor() Descriptor {
	return Descriptor{
		MediaType:    m.MediaType,
		Digest:       m.Digest,
		Size:         int64(len(m.Body)),
		ArtifactType: m.ArtifactType,
		Annotations:  m.Annotations,
	}
}

// AsReferrer returns what a list of its subject's referrers says of m: a manifest of
// OCI's first version, which could not state an artifact type, states it by the
// media type of its config (distribution-spec, "Listing Referrers").
func (m *Manifest) AsReferrer() Descriptor {
	d := m.Descriptor()
	if d.ArtifactType == "" && m.Config != nil {
		d.ArtifactType = m.Config.MediaType
	}
	return d
}
