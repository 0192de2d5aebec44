package manifest

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/distribution/reference"
)

// FuzzGrammar holds our grammar to distribution/reference's, the whole of it.
func FuzzGrammar(f *testing.F) {
	for _, s := range []string{"a", "a/b", "a-b", "a--b", "a__b", "a___b", "a._b", "a-", "-a", "a//b", "a/", "A", "latest", "v1.0_x-y", ".x",
		strings.Repeat("a", 128), strings.Repeat("a", 129), strings.Repeat("a", 255), strings.Repeat("a/", 128) + "a", "a\n", "é"} {
		f.Add(s)
	}
	tag := regexp.MustCompile("^(?:" + reference.TagRegexp.String() + ")$")
	f.Fuzz(func(t *testing.T, s string) {
		// With a host before it the rest is a path, whatever it looks like.
		_, err := reference.WithName("host.test/" + s)
		if got := ValidRepository(s); got != (err == nil) {
			t.Fatalf("repository %q: %v, reference says %v", s, got, err)
		}
		if got := ValidTag(s); got != (tag.MatchString(s) && !strings.HasSuffix(s, "\n")) {
			t.Fatalf("tag %q: %v", s, got)
		}
		if err := ParseTag(s); (err == nil) != ValidTag(s) || err != nil && !errors.Is(err, ErrTag) {
			t.Fatalf("tag %q: %v", s, err)
		}
	})
}

func BenchmarkValidRepository(b *testing.B) {
	for b.Loop() {
		if !ValidRepository("some-owner/some.app/with_parts") {
			b.Fatal("refused")
		}
	}
}
