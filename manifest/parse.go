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
