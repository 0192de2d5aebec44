package manifest

import (
	"errors"
	"fmt"

	"github.com/distribution/distribution/v3/manifest/schema2"
	spec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Descriptor says what a digest is before its bytes are there: its media type
// and its length. It is the OCI descriptor (image-spec, descriptor.md) cut down to
// what a registry acts on.
type Descriptor struct {
	MediaType    string            `json:"mediaType,omitempty"`
	Digest       Digest            `json:"digest"`
	Size         int64             `json:"size"` // bytes; see Length
	Platform     *Platform         `json:"platform,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	URLs         []string          `json:"urls,omitempty"` // where a foreign layer lies instead
}

// attestation is the annotation by which BuildKit marks a manifest that is
// about another one, its provenance or its bill of materials.
const attestation = "vnd.docker.reference.type"

// emptyBlobs are the digests that zero bytes have.
var emptyBlobs = map[Digest]bool{
	SHA256.Sum(SHA256.New()): true,
	SHA512.Sum(SHA512.New()): true,
}

// Length returns the content's length in bytes, or -1 if the descriptor does not
// say: a size of 0 is what a careless tool writes, and the engines take it for
// unknown, unless the digest is that of no bytes.
func (d Descriptor) Length() int64 {
	if d.Size == 0 && !emptyBlobs[d.Digest] {
		return -1
	}
	return d.Size
}

// IsManifest reports whether d's content is a manifest or index by its media type.
func (d Descriptor) IsManifest() bool { return IsManifestType(d.MediaType) }

// IsAttestation reports whether d, an entry of an index, is about an image
// rather than one: nothing runs it, and engines do not pull it.
func (d Descriptor) IsAttestation() bool {
	if d.Annotations[attestation] != "" {
		return true
	}
	return d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

// IsForeign reports whether d is a layer that registries need not have because
// its licence has everyone fetch it from its URLs.
func (d Descriptor) IsForeign() bool {
	if len(d.URLs) == 0 {
		return false
	}
	switch d.MediaType {
	case schema2.MediaTypeForeignLayer,
		spec.MediaTypeImageLayerNonDistributable,     //lint:ignore SA1019 retired, and in images that people run
		spec.MediaTypeImageLayerNonDistributableGzip, //lint:ignore SA1019 as above
		spec.MediaTypeImageLayerNonDistributableZstd: //lint:ignore SA1019 as above
		return true
	}
	return false
}

// check refuses what Parse does not let in.
func (d Descriptor) check() error {
	if d.Digest.IsZero() {
		return errors.New("a descriptor without a digest")
	}
	if d.Size < 0 {
		return fmt.Errorf("%s has %d bytes", d.Digest, d.Size)
	}
	return nil
}
