package target

import (
	"fmt"
	"strings"
)

// Known returns nil if name is a contender that could be started here, or a URL;
// else ErrUnknown or child.ErrBinary, so that a comparison fails before its first
// turn and not in the middle.
func Known(name string, binaries map[string]string) error {
	if IsURL(name) || name == direct {
		return nil
	}
	k, err := kindOf(name)
	if err != nil {
		return err
	}
	_, err = binaryOf(name, k, binaries)
	return err
}

func kindOf(name string) (kind, error) {
	k, ok := kinds[name]
	if !ok {
		return kind{}, fmt.Errorf("%w %q: a target is %s, or a URL such as http://127.0.0.1:5000", ErrUnknown, name, strings.Join(Kinds(), ", "))
	}
	return k, nil
}

// IsURL reports whether a contender is a registry that runs already, or several.
func IsURL(name string) bool {
	return strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://")
}

// WantsFiles reports whether a contender serves Options.Files. What is called nginx
// does so where the upstream has no part in what is measured.
func WantsFiles(name string, upstreamless bool) bool {
	return name == "nginx-static" || name == "nginx" && upstreamless
}

// TakesPushes reports whether a contender that is started with Options.Push is a
// registry of its own and no cache any more, whose images have to be pushed to it.
func TakesPushes(name string) bool { return name == "distribution" || name == "zot" }

// Direct reports whether a contender is the upstream itself.
func Direct(name string) bool { return name == direct }
