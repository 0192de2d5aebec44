package s3store

import (
	"path"
	"strings"
	"testing"
)

// FuzzKeysStayInTheirPlace: whatever a name is, a key that is made of it lies in
// that repository's folder and says the same when it is taken apart.
func FuzzKeysStayInTheirPlace(f *testing.F) {
	for _, s := range [][2]string{{"team/app", "v1"}, {"ghcr.io:443/x", "a.b-c_d"}, {"..", ".."}, {"a/_layers", "x"}, {"a//b", ""}, {"a\x00", "b/c"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, repo, tag string) {
		key, err := tagKey(repo, tag)
		if err != nil {
			return
		}
		if key != path.Clean(key) || checkKey(key) != nil {
			t.Fatalf("%q, %q became the key %q", repo, tag, key)
		}
		rest, ok := strings.CutPrefix(key, reposRoot)
		name, rest, found := strings.Cut(rest, "/_")
		if !ok || !found || name != repo || rest != "manifests/tags/"+tag+"/current/link" {
			t.Fatalf("%q, %q became the key %q", repo, tag, key)
		}
	})
}
