package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// ErrManifest is wrapped by every error that says that a body is not a manifest
// this registry keeps: malformed, ambiguous, too large or of a retired kind.
var ErrManifest = errors.New("not a manifest")

// Parse reads a manifest or index of any of the four media types and checks all
// that a registry relies on. The error wraps ErrManifest, and ErrDigest if a
// digest in it is the reason. The Digest is the sha256 of body; use ParseAs
// where a digest is known. The Manifest keeps body, which must not change any
// more.
//
// The media type is the one that the bytes state, else the one that their shape
// shows: that of "manifests" is an OCI index, that of "config" an OCI manifest.
// A document of both shapes, or whose shape contradicts its media type, or that
// says a thing twice, means different images to different readers
// (CVE-2021-41190) and is refused. Names of fields are matched as the container
// engines match them, by Go's rules, case apart.
func Parse(body []byte) (*Manifest, error) {
	m, err := parse(body)
	if err != nil {
		return nil, err
	}
	m.Digest = DigestOf(body)
	return m, nil
}

// ParseAs is Parse of a body that must have digest d, of either algorithm; if it
// has not, the error wraps ErrMismatch and nothing was parsed.
func ParseAs(d Digest, body []byte) (*Manifest, error) {
	if err := d.Verify(body); err != nil {
		return nil, err
	}
	m, err := parse(body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d, err)
	}
	m.Digest = d
	return m, nil
}

// document is every field of the two formats that a registry acts on; those of
// schema 1 are there to be recognized.
type document struct {
	SchemaVersion field[int]               `json:"schemaVersion"`
	MediaType     field[string]            `json:"mediaType"`
	ArtifactType  field[string]            `json:"artifactType"`
	Config        field[Descriptor]        `json:"config"`
	Layers        field[[]Descriptor]      `json:"layers"`
	Manifests     field[[]Descriptor]      `json:"manifests"`
	Subject       field[Descriptor]        `json:"subject"`
	Annotations   field[map[string]string] `json:"annotations"`
	FSLayers      field[json.RawMessage]   `json:"fsLayers"`
}

// field is a field of a document that notices whether it was there. JSON null is
// absent: that is how Go's encoders write a nil slice.
type field[T any] struct {
	value T
	set   bool
}

// UnmarshalJSON is called for each occurrence of the field.
func (f *field[T]) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		return nil
	}
	if f.set {
		return errors.New("a field that may stand once stands twice")
	}
	f.set = true
	return json.Unmarshal(b, &f.value)
}

func parse(body []byte) (*Manifest, error) {
	if len(body) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes are more than the %d that a manifest may have", ErrManifest, len(body), MaxSize)
	}
	var doc document
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	mediaType, err := doc.mediaType()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	m := &Manifest{
		MediaType:    mediaType,
		ArtifactType: doc.ArtifactType.value,
		Body:         body,
		Layers:       doc.Layers.value,
		Manifests:    doc.Manifests.value,
		Annotations:  doc.Annotations.value,
	}
	if doc.Config.set {
		m.Config = &doc.Config.value
	}
	if doc.Subject.set {
		m.Subject = &doc.Subject.value
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return m, nil
}

// mediaType decides what the document is, from what it says and what it has.
func (doc *document) mediaType() (string, error) {
	stated := doc.MediaType.value
	if doc.SchemaVersion.value == 1 || doc.FSLayers.set || strings.HasPrefix(stated, "application/vnd.docker.distribution.manifest.v1+") {
		return "", errors.New("the manifest is of Docker's schema 1, which is retired; push the image again with any current client")
	}
	// A schemaVersion that is missing is let pass, as the engines do.
	if v := doc.SchemaVersion.value; doc.SchemaVersion.set && v != 2 {
		return "", fmt.Errorf("schemaVersion is %d, not 2", v)
	}
	index, image := doc.Manifests.set, doc.Config.set || doc.Layers.set
	switch {
	case index && image:
		return "", errors.New(`ambiguous: it has "manifests" like an index and "config" or "layers" like an image`)
	case stated == "" && index:
		return OCIIndex, nil
	case stated == "" && image:
		stated = OCIManifest
	case stated == "":
		return "", errors.New(`it has neither "mediaType" nor "manifests" nor "config"`)
	}
	switch stated {
	case OCIIndex, DockerList:
		if image {
			return "", fmt.Errorf(`mediaType is %s, but it has "config" or "layers" like an image`, stated)
		}
	case OCIManifest, DockerManifest:
		if index {
			return "", fmt.Errorf(`mediaType is %s, but it has "manifests" like an index`, stated)
		}
		if !doc.Config.set {
			return "", errors.New(`an image without "config"`)
		}
	default:
		return "", fmt.Errorf("mediaType %.100q is not that of an image or index of Docker's schema 2 or OCI", stated)
	}
	return stated, nil
}

// check goes over every descriptor.
func (m *Manifest) check() error {
	if n := max(len(m.Layers), len(m.Manifests)); n > MaxDescriptors {
		return fmt.Errorf("it lists %d descriptors, more than %d", n, MaxDescriptors)
	}
	if m.Config != nil {
		if err := m.Config.check(); err != nil {
			return fmt.Errorf("config: %w", err)
		}
	}
	if m.Subject != nil {
		if err := m.Subject.check(); err != nil {
			return fmt.Errorf("subject: %w", err)
		}
	}
	for i := range m.Layers {
		if err := m.Layers[i].check(); err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
	}
	for i := range m.Manifests {
		if err := m.Manifests[i].check(); err != nil {
			return fmt.Errorf("manifest %d: %w", i, err)
		}
	}
	return nil
}
