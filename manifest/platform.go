package manifest

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
)

// ErrPlatform is wrapped by every error of ParsePlatform.
var ErrPlatform = errors.New("not a platform")

// A Platform is what an image was built for, in the words of GOOS and GOARCH
// (OCI image-spec, image-index.md, "platform").
type Platform struct {
	OS           string   `json:"os"`
	Architecture string   `json:"architecture"`
	Variant      string   `json:"variant,omitempty"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
}

// ParsePlatform reads "os/architecture" or "os/architecture/variant" and
// normalizes it. The error wraps ErrPlatform.
func ParsePlatform(s string) (Platform, error) {
	parts := strings.SplitN(s, "/", 4)
	if len(parts) < 2 || len(parts) > 3 {
		return Platform{}, fmt.Errorf("%w: %.80q; write it like linux/amd64 or linux/arm/v7", ErrPlatform, s)
	}
	for _, part := range parts {
		if !isPlatformWord(part) {
			return Platform{}, fmt.Errorf("%w: %.80q in %.80q should be letters, digits, '.', '_' or '-'", ErrPlatform, part, s)
		}
	}
	p := Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p.Normalize(), nil
}

// maxPlatformWord bounds a part of a platform in bytes; the longest in use has 11.
const maxPlatformWord = 32

func isPlatformWord(s string) bool {
	if s == "" || len(s) > maxPlatformWord {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(isLower(c) || isDigit(c) || c >= 'A' && c <= 'Z' || c == '_' || c == '-' || c == '.') {
			return false
		}
	}
	return true
}

// Host returns the platform of this host as the engines on it see it: without
// a variant for amd64 and arm64 (they ask for the base one), and v7 for arm.
func Host() Platform {
	return Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}.Normalize()
}

// String returns the platform as ParsePlatform reads it.
func (p Platform) String() string {
	if p.Variant == "" {
		return p.OS + "/" + p.Architecture
	}
	return p.OS + "/" + p.Architecture + "/" + p.Variant
}

// Normalize returns p with one spelling for what has several: x86_64 is amd64,
// armhf is arm/v7, arm64/v8 is arm64. These are containerd's rules.
func (p Platform) Normalize() Platform {
	p.OS = strings.ToLower(p.OS)
	p.Architecture = strings.ToLower(p.Architecture)
	p.Variant = strings.ToLower(p.Variant)
	if p.OS == "macos" {
		p.OS = "darwin"
	}
	switch p.Architecture {
	case "i386":
		p.Architecture, p.Variant = "386", ""
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	switch p.Architecture {
	case "amd64":
		if p.Variant == "v1" {
			p.Variant = ""
		}
	case "arm64":
		switch p.Variant {
		case "8", "v8", "v8.0":
			p.Variant = ""
		case "9", "v9.0":
			p.Variant = "v9"
		}
	case "arm":
		switch p.Variant {
		case "":
			p.Variant = "v7"
		case "5", "6", "7", "8":
			p.Variant = "v" + p.Variant
		}
	}
	return p
}
