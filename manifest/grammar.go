package manifest

import (
	"errors"
	"fmt"
	"strings"
)

// The grammar is that of distribution/reference, checked by hand because it runs
// on every request: its regular expressions take microseconds. A fuzz test holds
// the two to the same answers.

// ErrName is wrapped by errors about what cannot be a repository's name.
var ErrName = errors.New("not a repository name")

// ErrTag is wrapped by errors about what cannot be a tag.
var ErrTag = errors.New("not a tag")

// MaxName bounds a repository's name as the bucket knows it, host included, in
// bytes. It is distribution's bound, and with it every part of the name fits a
// file name.
const MaxName = 255

// maxTag bounds a tag in bytes (distribution-spec, "Pulling manifests").
const maxTag = 128

// ParseTag checks a tag. The error wraps ErrTag.
func ParseTag(s string) error {
	if !ValidTag(s) {
		return fmt.Errorf("%w: %.140q; a tag has up to %d letters, digits, '_', '.' and '-' and begins with none of the last two", ErrTag, s, maxTag)
	}
	return nil
}

// ValidTag reports whether s can be a tag, and so an element of a path.
func ValidTag(s string) bool {
	if s == "" || len(s) > maxTag || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(isLower(c) || isDigit(c) || c >= 'A' && c <= 'Z' || c == '_' || c == '.' || c == '-') {
			return false
		}
	}
	return true
}

// ValidRepository reports whether s can be a repository's path: components of
// lower case letters and digits, separated by '/', within which '.', '_', '__' or
// any number of '-' may stand between letters and digits.
func ValidRepository(s string) bool {
	if s == "" || len(s) > MaxName {
		return false
	}
	for rest, more := s, true; more; {
		var component string
		component, rest, more = strings.Cut(rest, "/")
		if !isComponent(component) {
			return false
		}
	}
	return true
}

func isComponent(s string) bool {
	for i := 0; i < len(s); {
		// A run of letters and digits, then a separator or the end.
		start := i
		for i < len(s) && (isLower(s[i]) || isDigit(s[i])) {
			i++
		}
		if i == start {
			return false
		}
		if i == len(s) {
			return true
		}
		switch {
		case s[i] == '-':
			for i < len(s) && s[i] == '-' {
				i++
			}
		case strings.HasPrefix(s[i:], "__"):
			i += 2
		case s[i] == '.' || s[i] == '_':
			i++
		default:
			return false
		}
	}
	return false
}

func isLower(c byte) bool { return c >= 'a' && c <= 'z' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }
