package registryd

import (
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"hostlocal/manifest"
)

// A route is one endpoint of the distribution API; its name is the value of the
// metrics' route label.
type route uint8

const (
	routeOther route = iota // nothing that the API knows
	routeBase               // /v2/
	routeCatalog
	routeManifest
	routeBlob
	routeTags
	routeReferrers
	routeUpload
	routes // how many there are
)

func (r route) String() string {
	return [routes]string{"other", "base", "catalog", "manifest", "blob", "tags", "referrers", "upload"}[r]
}

// A target is what a path means. Of tag and digest at most one is set.
type target struct {
	route  route
	name   string
	tag    string
	digest manifest.Digest
}

// parseTarget reads a path by hand: this is on every request's way, and the
// names of repositories may contain "manifests", "blobs" and "tags" themselves,
// so the endpoint is found from the end. raw is url.URL.RawPath: the path as it
// was sent if that differs from the plain encoding of path.
//
// A path that is not the API's gets routeOther and no error. A path that is, but
// with a part that cannot be valid, gets an errcode.Error.
func parseTarget(path, raw string) (target, error) {
	if raw != "" && !onlyColonsEncoded(path, raw) {
		return target{}, errcode.ErrorCodeNameInvalid.WithMessage("percent-encoded characters have no place in a repository's name")
	}
	rest, ok := strings.CutPrefix(path, "/v2")
	if !ok || rest != "" && rest[0] != '/' {
		return target{}, nil
	}
	switch rest {
	case "", "/":
		return target{route: routeBase}, nil
	case "/_catalog":
		return target{route: routeCatalog}, nil
	}
	return parseEndpoint(rest[1:])
}

// parseEndpoint reads what follows /v2/: <name>/<endpoint>/<what>.
func parseEndpoint(p string) (target, error) {
	if len(p) > manifest.MaxName+len("/manifests/")+len("sha512:")+128 {
		return target{}, errcode.ErrorCodeNameInvalid.WithMessage("the path is longer than any repository's")
	}
	head, last := cutLast(p)
	name, endpoint := cutLast(head)
	t := target{name: name}
	var err error
	switch {
	case endpoint == "manifests":
		t.route = routeManifest
		t.tag, t.digest, err = parseRef(last)
	case endpoint == "blobs" && last == "uploads":
		t.route = routeUpload
	case endpoint == "blobs":
		t.route = routeBlob
		t.digest, err = parseDigest(last)
	case endpoint == "tags" && last == "list":
		t.route = routeTags
	case endpoint == "referrers":
		t.route = routeReferrers
		t.digest, err = parseDigest(last)
	case endpoint == "uploads" && strings.HasSuffix(name, "/blobs"):
		t.route, t.name = routeUpload, strings.TrimSuffix(name, "/blobs")
	default:
		// Not an endpoint; say so if the path is not even made of names.
		return target{}, checkName(p)
	}
	if bad := checkName(t.name); bad != nil {
		err = bad
	}
	return t, err
}

// uploadID is the id in the path of an upload, as it was sent; empty in the one where
// uploads begin. (A field of target would be on the stack of every answer.)
func uploadID(path string) string {
	head, id := cutLast(path)
	if _, endpoint := cutLast(head); endpoint != "uploads" {
		return "" // ".../blobs/uploads", without a slash
	}
	return id
}

// cutLast splits at the last slash.
func cutLast(s string) (before, after string) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", s
	}
	return s[:i], s[i+1:]
}

// parseRef tells a digest by its colon from a tag. What cannot be a tag is the
// name of nothing, so it is an unknown manifest: the specification's conformance
// tests ask for a 404.
func parseRef(s string) (tag string, d manifest.Digest, err error) {
	if strings.IndexByte(s, ':') >= 0 {
		d, err = parseDigest(s)
		return "", d, err
	}
	if !manifest.ValidTag(s) {
		return "", d, errcode.ErrorCodeManifestUnknown.WithMessage("not a tag: at most 128 letters, digits, '_', '.' and '-'")
	}
	return s, d, nil
}

// parseDigest is manifest.ParseDigest with an error for a client.
func parseDigest(s string) (manifest.Digest, error) {
	d, err := manifest.ParseDigest(s)
	if err != nil {
		return d, errcode.ErrorCodeDigestInvalid.WithMessage(err.Error())
	}
	return d, nil
}

// checkName refuses what no grammar of names allows, before anything is looked
// up: empty components, components of dots, bytes outside the alphabet. What a
// name means, and the finer grammar, is Registry.Resolve's.
func checkName(name string) error {
	if name == "" || len(name) > manifest.MaxName {
		return errcode.ErrorCodeNameInvalid.WithMessage("a repository's name has 1 to 255 characters")
	}
	start := 0
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			if !nameByte(name[i]) {
				return errcode.ErrorCodeNameInvalid.WithMessage("a repository's name is made of a-z, 0-9, '.', '_', '-' and '/'")
			}
			continue
		}
		if c := name[start:i]; c == "" || c[0] == '.' {
			return errcode.ErrorCodeNameInvalid.WithMessage("a component of a repository's name is empty or begins with a dot")
		}
		start = i + 1
	}
	return nil
}

// nameByte reports whether c may stand in a component; the colon is for the
// port of an upstream that is named as the first one, as are capital letters.
func nameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-' || c == ':'
}

// onlyColonsEncoded reports whether raw is path with nothing encoded but colons:
// some clients send sha256%3A..., and nobody else has a reason to encode
// anything in a path of this alphabet.
func onlyColonsEncoded(path, raw string) bool {
	for path != "" {
		switch {
		case raw == "":
			return false
		case raw[0] == path[0] && raw[0] != '%':
			path, raw = path[1:], raw[1:]
		case path[0] == ':' && len(raw) >= 3 && raw[0] == '%' && raw[1] == '3' && (raw[2] == 'A' || raw[2] == 'a'):
			path, raw = path[1:], raw[3:]
		default:
			return false
		}
	}
	return raw == ""
}
