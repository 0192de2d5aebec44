package manifest

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
)

// ErrDigest is wrapped by every error of ParseDigest.
var ErrDigest = errors.New("not a digest")

// ErrMismatch is wrapped by every error that says that bytes do not have the
// digest under which they were found.
var ErrMismatch = errors.New("content does not match its digest")

// Algorithm is a hash that the OCI image specification registers for digests.
// Only the two registered ones exist: SHA256 and SHA512.
type Algorithm string

// The registered algorithms (OCI image-spec, descriptor.md, "Digests").
const (
	SHA256 Algorithm = "sha256"
	SHA512 Algorithm = "sha512"
)

// New returns a fresh hash of the algorithm.
func (a Algorithm) New() hash.Hash {
	if a == SHA512 {
		return sha512.New()
	}
	return sha256.New()
}

// hexLen is the length of the encoded part, in characters.
func (a Algorithm) hexLen() int {
	if a == SHA512 {
		return 2 * sha512.Size
	}
	return 2 * sha256.Size
}

// A Digest names bytes by their hash, as "sha256:<64 hex>" or "sha512:<128
// hex>". It comes only from ParseDigest or from hashing, so a Digest in hand is
// valid: it can be a map key, a path element and a URL element as it is. The zero
// value is no digest at all and is told apart with IsZero.
type Digest struct{ s string }

// ParseDigest checks s: a registered algorithm and exactly its number of lower
// case hexadecimal digits. The error wraps ErrDigest.
func ParseDigest(s string) (Digest, error) {
	alg, enc, ok := strings.Cut(s, ":")
	if !ok {
		return Digest{}, fmt.Errorf("%w: %.80q has no algorithm", ErrDigest, s)
	}
	a := Algorithm(alg)
	if a != SHA256 && a != SHA512 {
		return Digest{}, fmt.Errorf("%w: %.80q is neither sha256 nor sha512", ErrDigest, s)
	}
	if len(enc) != a.hexLen() {
		return Digest{}, fmt.Errorf("%w: %.80q should have %d hexadecimal digits, not %d", ErrDigest, s, a.hexLen(), len(enc))
	}
	for i := range len(enc) {
		if c := enc[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return Digest{}, fmt.Errorf("%w: %.80q has %q, which is not lower case hexadecimal", ErrDigest, s, c)
		}
	}
	return Digest{s}, nil
}

// MustDigest is ParseDigest for digests that the program itself wrote down.
func MustDigest(s string) Digest {
	d, err := ParseDigest(s)
	if err != nil {
		panic(err)
	}
	return d
}

// DigestOf returns the sha256 digest of b.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest{"sha256:" + hex.EncodeToString(sum[:])}
}

// Sum returns the digest that h, a hash made by a.New, stands at.
func (a Algorithm) Sum(h hash.Hash) Digest {
	return Digest{string(a) + ":" + hex.EncodeToString(h.Sum(nil))}
}

// String returns the digest as it stands in manifests and URLs.
func (d Digest) String() string { return d.s }

// IsZero reports whether d is the zero value: no digest.
func (d Digest) IsZero() bool { return d.s == "" }

// Algorithm returns the part before the colon.
func (d Digest) Algorithm() Algorithm {
	alg, _, _ := strings.Cut(d.s, ":")
	return Algorithm(alg)
}

// Hex returns the part after the colon.
func (d Digest) Hex() string {
	_, enc, _ := strings.Cut(d.s, ":")
	return enc
}

// Verify hashes b and returns an error that wraps ErrMismatch if it is not d's
// content.
func (d Digest) Verify(b []byte) error {
	a := d.Algorithm()
	h := a.New()
	h.Write(b)
	if got := a.Sum(h); got != d {
		return fmt.Errorf("%w: want %s, got %s", ErrMismatch, d, got)
	}
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.s), nil }

// UnmarshalText implements encoding.TextUnmarshaler; an empty text is the zero
// Digest, anything else must parse.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = Digest{}
		return nil
	}
	p, err := ParseDigest(string(b))
	if err == nil {
		*d = p
	}
	return err
}
