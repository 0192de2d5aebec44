package manifest

import (
	"errors"
	"strings"
	"testing"

	"github.com/distribution/reference"
)

func TestParseImage(t *testing.T) {
	n := testNames(t)
	for _, c := range []struct{ s, name, tag, digest string }{
		{"busybox", "docker.io/library/busybox", "latest", ""},
		{"busybox:1.36", "docker.io/library/busybox", "1.36", ""},
		{"docker.io/busybox", "docker.io/library/busybox", "latest", ""},
		{"hub.test:5443/library/x:v1@" + someSHA256, "hub.test:5443/library/x", "v1", someSHA256},
		{"hub.test:5443/x", "hub.test:5443/x", "latest", ""},
		{"ghcr.io/o/a@" + someSHA512, "ghcr.io/o/a", "", someSHA512},
		{"localhost:5000/team/app:dev", "team/app", "dev", ""},
		{"registry.corp/o/a", "docker.io/o/a", "latest", ""},
	} {
		m, tag, d, err := n.ParseImage(c.s)
		if err != nil || m.Name.String() != c.name || tag != c.tag || d.String() != c.digest {
			t.Errorf("%s: %s %s %s, %v", c.s, m.Name, tag, d, err)
		}
	}
	for s, want := range map[string]error{
		"":                               ErrReference,
		":v1":                            ErrReference,
		"@" + someSHA256:                 ErrReference,
		"a:":                             ErrTag,
		"a:-x":                           ErrTag,
		"a:v1:v2":                        ErrName,
		"a@sha256:abc":                   ErrDigest,
		"a@":                             ErrDigest,
		"docker://ghcr.io/o/a":           ErrReference,
		"quay.io/o/a":                    ErrRegistry,
		"ghcr.io/O/a":                    ErrName,
		"ghcr.io/o/a ":                   ErrName,
		strings.Repeat("a/", 1000) + "x": ErrReference,
	} {
		if _, _, _, err := n.ParseImage(s); !errors.Is(err, want) {
			t.Errorf("%.80q: %v, want %v", s, err, want)
		} else if len(err.Error()) > 400 {
			t.Errorf("%.80q: a message of %d bytes", s, len(err.Error()))
		}
	}
	if _, _, _, err := n.ParseImage("docker://ghcr.io/o/a"); !strings.Contains(err.Error(), `write "ghcr.io/o/a"`) {
		t.Errorf("does not say what to write: %v", err)
	}
}

// FuzzParseReference: what distribution/reference parses with digests that we know
// comes out the same, and what comes out parses again to the same.
func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"busybox", "a/b:v1", "ghcr.io/o/a:v1@" + someSHA256, "h:5000/a", "a@" + someSHA512, "a:", "docker://a", "[::1]:5000/a:b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err == nil {
			again, err := ParseReference(r.String())
			if err != nil || again != r || r.String() != s {
				t.Fatalf("%q became %q, then %q, %v", s, r, again, err)
			}
		}
		theirs, oracle := reference.Parse(s)
		if oracle != nil {
			return
		}
		if d, ok := theirs.(reference.Digested); ok && d.Digest().Algorithm() != "sha256" && d.Digest().Algorithm() != "sha512" {
			return
		}
		if err != nil {
			t.Fatalf("%q is a reference, but %v", s, err)
		}
		if named, ok := theirs.(reference.Named); ok && named.Name() != r.Repository {
			t.Fatalf("%q: repository %q, want %q", s, r.Repository, named.Name())
		}
		if tagged, ok := theirs.(reference.Tagged); ok != (r.Tag != "") || ok && tagged.Tag() != r.Tag {
			t.Fatalf("%q: tag %q", s, r.Tag)
		}
	})
}
