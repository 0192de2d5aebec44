package registryd

import (
	"net/url"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"hostlocal/manifest"
)

var someDigest = manifest.DigestOf([]byte("some"))

func TestUploadsHaveTheirIDInThePath(t *testing.T) {
	for path, want := range map[string]string{
		"/v2/a/blobs/uploads/": "", "/v2/a/blobs/uploads": "", "/v2/a/blobs/uploads/x": "x", "/v2/uploads/uploads/blobs/uploads": "",
	} {
		if id := uploadID(path); id != want {
			t.Errorf("%s: %q, want %q", path, id, want)
		}
	}
}

func TestPathsMeanEndpoints(t *testing.T) {
	d := someDigest.String()
	for _, c := range []struct {
		path string
		want target
	}{
		{"/v2/", target{route: routeBase}},
		{"/v2", target{route: routeBase}},
		{"/v2/_catalog", target{route: routeCatalog}},
		{"/v2/library/debian/manifests/12", target{route: routeManifest, name: "library/debian", tag: "12"}},
		{"/v2/debian/manifests/" + d, target{route: routeManifest, name: "debian", digest: someDigest}},
		{"/v2/ghcr.io/o/app/blobs/" + d, target{route: routeBlob, name: "ghcr.io/o/app", digest: someDigest}},
		{"/v2/localhost:5000/app/blobs/" + d, target{route: routeBlob, name: "localhost:5000/app", digest: someDigest}},
		{"/v2/a/b/tags/list", target{route: routeTags, name: "a/b"}},
		{"/v2/a/referrers/" + d, target{route: routeReferrers, name: "a", digest: someDigest}},
		{"/v2/a/blobs/uploads/", target{route: routeUpload, name: "a"}},
		{"/v2/a/blobs/uploads/some-id", target{route: routeUpload, name: "a"}},
		// Names that look like endpoints.
		{"/v2/manifests/manifests/manifests/latest", target{route: routeManifest, name: "manifests/manifests", tag: "latest"}},
		{"/v2/tags/list/tags/list", target{route: routeTags, name: "tags/list"}},
		{"/v2/blobs/blobs/" + d, target{route: routeBlob, name: "blobs", digest: someDigest}},
		// Not the API's.
		{"/", target{}}, {"/v1/_ping", target{}}, {"/v22/", target{}}, {"", target{}}, {"*", target{}},
	} {
		got, err := parseTarget(c.path, "")
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", c.path, got, err, c.want)
		}
	}
}

// hostilePaths are as a client would send them, and the status that each gets.
var hostilePaths = map[string]int{
	"/v2/../../etc/passwd/manifests/latest":                           400,
	"/v2/a/../b/manifests/latest":                                     400,
	"/v2/./manifests/latest":                                          400,
	"/v2/%2e%2e/%2e%2e/etc/manifests/latest":                          400,
	"/v2/a%2fb/manifests/latest":                                      400,
	"/v2/a%2F..%2Fb/blobs/" + someDigest.String():                     400,
	"/v2/a%00b/manifests/latest":                                      400,
	"/v2/a%0d%0ab/manifests/latest":                                   400,
	"/v2/a%25b/manifests/latest":                                      400,
	"/v2//manifests/latest":                                           400,
	"/v2//a/manifests/latest":                                         400,
	"/v2/a//b/manifests/latest":                                       400,
	"/v2/a/manifests/":                                                404,
	"/v2/a/manifests/..":                                              404,
	"/v2/a/manifests/.hidden":                                         404,
	"/v2/a/manifests/%2e%2e":                                          400,
	"/v2/a/manifests/" + strings.Repeat("t", 129):                     404,
	"/v2/a/manifests/sha256:short":                                    400,
	"/v2/a/manifests/md5:" + strings.Repeat("0", 32):                  400,
	"/v2/a/blobs/latest":                                              400,
	"/v2/a/blobs/sha256:" + strings.Repeat("G", 64):                   400,
	"/v2/a/blobs/sha256:" + strings.Repeat("A", 64):                   400,
	"/v2/a/blobs/sha256:../../../../../../etc/passwd":                 400,
	"/v2/A/manifests/latest":                                          400,
	"/v2/\xc3\xa9/manifests/latest":                                   400,
	"/v2/a\\b/manifests/latest":                                       400,
	"/v2/a b/manifests/latest":                                        400,
	"/v2/" + strings.Repeat("a", 300) + "/manifests/latest":           400,
	"/v2/" + strings.Repeat("a/", 4000) + "manifests/latest":          400,
	"/v2/" + strings.Repeat("a", 64<<10) + "/manifests/latest":        431,
	"/v2/a/manifests/latest?ns=" + strings.Repeat("h", 300):           400,
	"/v2/a/manifests/latest?ns=evil.example":                          404,
	"/v2/a/manifests/latest?ns=docker.io&ns=evil.example":             400,
	"/v2/a/manifests/latest?ns=a%00b":                                 400,
	"/v2/a/manifests/latest?ns=http://evil.example/":                  400,
	"/v2/a/manifests/latest?ns=%zz":                                   400,
	"/v2/a/manifests/latest?x=" + strings.Repeat("y", 4000):           400,
	"/v2/a/tags/list?n=-1":                                            400,
	"/v2/a/tags/list?n=x":                                             400,
	"/v2/a/tags/list?n=99999999999999999999":                          400,
	"/v2/a/tags/list?last=%zz":                                        400,
	"/v2/_catalog?n=-1":                                               400,
	"/v2/a":                                                           404,
	"/v2/a/b/c":                                                       404,
	"/v2/manifests/latest":                                            400,
	"/v1/_ping":                                                       404,
	"/":                                                               404,
	"/..":                                                             404,
	"//":                                                              404,
	"/v2/a/blobs/uploads/../../../x":                                  400,
	"/v2/a/referrers/" + someDigest.String():                          200, // there are none
	"/v2/a/blobs/uploads/x":                                           403,
	"/v2/a/manifests/sha256%3a" + someDigest.Hex():                    404, // an honest one, but nothing is there
	"/v2/a/manifests/sha256%253a" + someDigest.Hex():                  404,
	"/v2/a/blobs/" + someDigest.String() + "?ns=" + "docker.io":       404,
	"/v2/a/blobs/" + someDigest.String() + "%2f..%2f..%2f..%2fsecret": 400,
}

func TestHostilePathsGetAnAnswer(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	for path, want := range hostilePaths {
		status, body, err := rawGet(h.base, path)
		switch {
		case err != nil:
			t.Errorf("%.80q: no answer: %v", path, err)
		case status != want:
			t.Errorf("%.80q: %d, want %d", path, status, want)
		case status != 200 && status != 431 && !strings.Contains(body, `{"errors":[{"code":`) && !strings.Contains(body, "400 Bad Request"):
			t.Errorf("%.80q: %.200q is not in the API's form", path, body)
		}
	}
}

func TestParsingAPathCostsNothing(t *testing.T) {
	path := "/v2/ghcr.io/owner/app/manifests/latest"
	if n := testing.AllocsPerRun(100, func() { parseTarget(path, ""); namespace("ns=docker.io") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParseTarget(f *testing.F) {
	for p := range hostilePaths {
		f.Add(p)
	}
	f.Add("/v2/library/debian/manifests/12?ns=docker.io")
	f.Fuzz(func(t *testing.T, uri string) {
		u, err := url.ParseRequestURI(uri)
		if err != nil {
			return
		}
		namespace(u.RawQuery)
		got, err := parseTarget(u.Path, u.RawPath)
		if err != nil {
			if _, ok := err.(errcode.Error); !ok {
				t.Fatalf("%q: %v has no status", uri, err)
			}
			return
		}
		if got.name == "" {
			return
		}
		// What is let through can be joined to a folder, and means what it says.
		for c := range strings.SplitSeq(got.name, "/") {
			if c == "" || c[0] == '.' || strings.ContainsAny(c, "\\%\x00 ?#") {
				t.Fatalf("%q gives component %q", uri, c)
			}
		}
		var back string
		switch got.route {
		case routeManifest:
			back = "/v2/" + got.name + "/manifests/" + Ref{got.tag, got.digest}.String()
		case routeBlob:
			back = "/v2/" + got.name + "/blobs/" + got.digest.String()
		case routeTags:
			back = "/v2/" + got.name + "/tags/list"
		case routeReferrers:
			back = "/v2/" + got.name + "/referrers/" + got.digest.String()
		default:
			return
		}
		if back != u.Path {
			t.Fatalf("%q reads as %q", uri, back)
		}
	})
}
