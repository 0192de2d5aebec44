package manifest

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
)

var (
	someSHA256 = "sha256:" + strings.Repeat("0a", 32)
	someSHA512 = "sha512:" + strings.Repeat("0a", 64)
)

func TestParseDigestRefusesWhatIsNone(t *testing.T) {
	for _, s := range []string{
		"", ":", "sha256", "sha256:", "sha256:abc", someSHA256 + "0", someSHA256[:70], strings.ToUpper(someSHA256),
		"sha256:" + strings.Repeat("0A", 32), "SHA256:" + strings.Repeat("0a", 32), "sha512:" + strings.Repeat("0a", 32),
		"sha256:" + strings.Repeat("0a", 64), "sha1:" + strings.Repeat("0a", 20), "md5:x", "sha384:" + strings.Repeat("0a", 48),
		"sha256:../../../../etc/passwd", "sha256:" + strings.Repeat("/", 64), " " + someSHA256, someSHA256 + "\n",
		"sha256+b64:" + strings.Repeat("0a", 32), strings.Repeat("a", 1<<16),
	} {
		d, err := ParseDigest(s)
		if !errors.Is(err, ErrDigest) || !d.IsZero() {
			t.Errorf("%.80q: %v, %v", s, d, err)
		} else if len(err.Error()) > 300 {
			t.Errorf("%.80q: a message of %d bytes", s, len(err.Error()))
		}
	}
}

func TestDigestVerifiesBothAlgorithms(t *testing.T) {
	for _, a := range []Algorithm{SHA256, SHA512} {
		h := a.New()
		h.Write([]byte("content"))
		d := a.Sum(h)
		if d.Algorithm() != a || d.String() != string(a)+":"+d.Hex() {
			t.Errorf("%s falls apart into %s and %s", d, d.Algorithm(), d.Hex())
		}
		if err := d.Verify([]byte("content")); err != nil {
			t.Error(err)
		}
		if err := d.Verify([]byte("contenT")); !errors.Is(err, ErrMismatch) {
			t.Errorf("a flipped bit: %v", err)
		}
	}
}

func TestDigestInJSON(t *testing.T) {
	var v struct{ D Digest }
	if err := json.Unmarshal([]byte(`{"D":"`+someSHA512+`"}`), &v); err != nil || v.D.String() != someSHA512 {
		t.Errorf("%v, %v", v.D, err)
	}
	if b, err := json.Marshal(v); err != nil || string(b) != `{"D":"`+someSHA512+`"}` {
		t.Errorf("%s, %v", b, err)
	}
	if err := json.Unmarshal([]byte(`{"D":"sha256:x"}`), &v); !errors.Is(err, ErrDigest) {
		t.Errorf("a bad one: %v", err)
	}
}

// FuzzParseDigest: what is accepted is what go-digest accepts for the two
// algorithms, it comes out as it went in, and it is safe in a path.
func FuzzParseDigest(f *testing.F) {
	for _, s := range []string{someSHA256, someSHA512, "sha256:", "sha384:" + strings.Repeat("0a", 48), strings.ToUpper(someSHA256), "sha256:../x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDigest(s)
		oracle := digest.Digest(s)
		valid := oracle.Validate() == nil && (oracle.Algorithm() == digest.SHA256 || oracle.Algorithm() == digest.SHA512)
		if valid != (err == nil) {
			t.Fatalf("%q: %v, but go-digest says %v", s, err, oracle.Validate())
		}
		if err == nil && (d.String() != s || strings.ContainsAny(d.Hex(), "/.\\\x00")) {
			t.Fatalf("%q became %q", s, d)
		}
	})
}
