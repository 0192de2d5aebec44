package manifest

import (
	"errors"
	"fmt"
	"strings"
)

// ErrReference is wrapped by every error of ParseReference.
var ErrReference = errors.New("not an image reference")

// A Reference is what a person or a scheduler writes for an image:
// "ghcr.io/owner/app:v1@sha256:...".
type Reference struct {
	Repository string // as it was written, host included; which one it means, Names says
	Tag        string // "" if there is none
	Digest     Digest // zero if there is none; it decides where both stand
}

// maxReference bounds a reference in bytes: a name, a tag and the longest digest.
const maxReference = MaxName + 1 + maxTag + 1 + len("sha512:") + 128

// ParseReference splits s and checks the tag and the digest; the repository is
// checked by Names.Resolve. The tag is not defaulted.
func ParseReference(s string) (Reference, error) {
	if len(s) > maxReference {
		return Reference{}, fmt.Errorf("%w: %.80q... has %d bytes, more than %d", ErrReference, s, len(s), maxReference)
	}
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		return Reference{}, fmt.Errorf("%w: %.80q; leave out %s:// and write %.80q", ErrReference, s, scheme, rest)
	}
	var r Reference
	name, dgst, hasDigest := strings.Cut(s, "@")
	if hasDigest {
		d, err := ParseDigest(dgst)
		if err != nil {
			return Reference{}, fmt.Errorf("%w: %w", ErrReference, err)
		}
		r.Digest = d
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		r.Tag = name[i+1:]
		name = name[:i]
		if err := ParseTag(r.Tag); err != nil {
			return Reference{}, fmt.Errorf("%w: %w", ErrReference, err)
		}
	}
	if name == "" {
		return Reference{}, fmt.Errorf("%w: %.80q has no name", ErrReference, s)
	}
	r.Repository = name
	return r, nil
}

// String returns the reference as ParseReference reads it.
func (r Reference) String() string {
	s := r.Repository
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if !r.Digest.IsZero() {
		s += "@" + r.Digest.String()
	}
	return s
}

// ParseImage is ParseReference and Resolve of what it names. The tag is "latest"
// if s has neither tag nor digest, and "" if it has a digest alone. The error
// wraps ErrReference, ErrName or ErrRegistry.
func (n *Names) ParseImage(s string) (m Meaning, tag string, d Digest, err error) {
	r, err := ParseReference(s)
	if err != nil {
		return Meaning{}, "", Digest{}, err
	}
	m, err = n.Resolve(r.Repository, "")
	if err != nil {
		return Meaning{}, "", Digest{}, err
	}
	if r.Tag == "" && r.Digest.IsZero() {
		r.Tag = "latest"
	}
	return m, r.Tag, r.Digest, nil
}
