package manifest

// A Descriptor says what a digest is before its bytes are there: its media type
// and its length. It is the OCI descriptor (image-spec, descriptor.md) cut down to
// what a registry acts on.
type Descriptor struct {
	MediaType    string            `json:"mediaType,omitempty"`
	Digest       Digest            `json:"digest"`
	Size         int64             `json:"size"` // bytes
	Platform     *Platform         `json:"platform,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	URLs         []string          `json:"urls,omitempty"` // where a foreign layer lies instead
}
