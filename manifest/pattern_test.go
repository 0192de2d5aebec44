package manifest

import "testing"

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "a/b", true}, {"a", "a", true}, {"a", "ab", false},
		{"a*", "a", true}, {"a*", "ba", false}, {"*a", "ba", true}, {"*a", "ab", false}, {"a*a", "a", false}, {"a*a", "aa", true},
		{"a*b*c", "aXbYc", true}, {"a*b*c", "acb", false}, {"*b*", "abc", true}, {"**", "x", true}, {"?", "", false}, {"v?", "v1", true}, {"*-rc?", "v1-rc2", true}, {"*-rc?", "v1-rc", false}, {"?*", "ab", true}, {"a*bc*bc", "abcbc", true}, {"a*bc*bc", "abc", false},
	} {
		if got := MatchPattern(c.pattern, c.s); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.s, got)
		}
	}
}
