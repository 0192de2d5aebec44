package registryd

import (
	"strings"
	"testing"

	"hostlocal/manifest"
)

func TestManifestsHaveTheirHeaders(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	d := h.manifest("library/debian", "12", `{"a": "manifest"}`)
	for ref, cache := range map[string]string{"12": "", d.String(): cacheControl[0]} {
		for _, accept := range []string{"", "*/*", "application/vnd.docker.distribution.manifest.v1+json", "text/html"} {
			for _, method := range []string{"GET", "HEAD"} {
				g := h.do(method, "/v2/library/debian/manifests/"+ref+"?ns=docker.io", "Accept: "+accept, "Accept-Encoding: gzip")
				h.want(g, 200, "Content-Type: "+manifest.OCIManifest, "Content-Length: 17", "Docker-Content-Digest: "+d.String(),
					`Etag: "`+d.String()+`"`, "X-Registryd-Source: disk", "Content-Encoding:", "Warning:", "Cache-Control: "+cache)
				if method == "GET" && string(g.body) != `{"a": "manifest"}` {
					t.Errorf("body %q", g.body)
				}
			}
		}
		for _, method := range []string{"GET", "HEAD"} {
			h.want(h.do(method, "/v2/library/debian/manifests/"+ref, `If-None-Match: W/"x", "`+d.String()+`"`), 304, "Content-Length:")
			h.want(h.do(method, "/v2/library/debian/manifests/"+ref, `If-None-Match: "other"`), 200)
		}
		// containerd 2.1 and later ask so for everything.
		h.want(h.get("/v2/library/debian/manifests/"+ref, "Range: bytes=0-"), 206, "Content-Range: bytes 0-16/17", "Content-Type: "+manifest.OCIManifest)
		h.wantError(h.get("/v2/library/debian/manifests/"+ref, "Range: bytes=17-"), 416, "RANGE_INVALID")
	}
	h.wantError(h.get("/v2/library/debian/manifests/13"), 404, "MANIFEST_UNKNOWN")
	h.want(h.do("HEAD", "/v2/library/debian/manifests/13"), 404)
}

func TestWarningIsPassedOn(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	h.manifest("a/b", "t", "{}")
	a := h.manifests["a/b:t"]
	a.Warning = `299 - "not confirmed"`
	h.manifests["a/b:t"] = a
	for _, method := range []string{"GET", "HEAD"} {
		h.want(h.do(method, "/v2/a/b/manifests/t"), 200, `Warning: 299 - "not confirmed"`)
	}
}

func TestHeadOfAManifestThatIsNotHereClaimsForItselfAlone(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	d := h.manifest("a/b", "true", "{}")
	h.manifests["a/b:claimed"] = Answer{Manifest: &manifest.Manifest{Digest: d, MediaType: "text/lie"}, Size: 99, Source: SourceUpstream}
	h.want(h.do("HEAD", "/v2/a/b/manifests/claimed"), 200, "Content-Type: text/lie", "Content-Length: 99", "X-Registryd-Source: upstream")
	h.want(h.get("/v2/a/b/manifests/true"), 200, "Content-Type: "+manifest.OCIManifest, "Content-Length: 2")
}

func TestPing(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	for _, path := range []string{"/v2/", "/v2"} {
		g := h.get(path)
		h.want(g, 200, "Content-Length: 2", "Docker-Distribution-Api-Version: registry/2.0", "Content-Type: application/json")
		if string(g.body) != "{}" {
			t.Errorf("body %q", g.body)
		}
		h.want(h.do("HEAD", path), 200, "Content-Length: 2")
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"} {
			h.wantError(h.do(method, path), 405, "UNSUPPORTED")
		}
	}
}

func TestPushesAreRefusedUnlessAllowed(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	for _, c := range [][2]string{
		{"POST", "/v2/a/b/blobs/uploads/"}, {"PATCH", "/v2/a/b/blobs/uploads/x"}, {"PUT", "/v2/a/b/manifests/t"}, {"DELETE", "/v2/a/b/blobs/" + someDigest.String()},
	} {
		h.wantError(h.do(c[0], c[1]), 403, "DENIED")
	}
}

func TestWebPagesAreRefused(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	h.manifest("a/b", "t", "{}")
	for _, path := range []string{"/v2/", "/v2/a/b/manifests/t", "/nothing"} {
		h.wantError(h.get(path, "Origin: http://evil.example"), 403, "DENIED")
		h.wantError(h.get(path, "Origin: null"), 403, "DENIED")
	}
}

func TestTagsInPages(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	h.tags = []string{"a", "b", "c"}
	for _, c := range []struct{ query, body, link string }{
		{"", `{"name":"x/y","tags":["a","b","c"]}`, ""},
		{"?n=2", `{"name":"x/y","tags":["a","b"]}`, `</v2/x/y/tags/list?last=b&n=2>; rel="next"`},
		{"?n=2&last=b", `{"name":"x/y","tags":["c"]}`, ""},
		{"?n=0", `{"name":"x/y","tags":[]}`, ""},
		{"?last=z", `{"name":"x/y","tags":[]}`, ""},
		{"?n=1&ns=docker.io", `{"name":"x/y","tags":["a"]}`, `</v2/x/y/tags/list?last=a&n=1&ns=docker.io>; rel="next"`},
		{"?n=999999999", `{"name":"x/y","tags":["a","b","c"]}`, ""},
	} {
		g := h.get("/v2/x/y/tags/list" + c.query)
		source := SourceStore
		if strings.Contains(c.query, "ns=") {
			source = SourceUpstream
		}
		h.want(g, 200, "Link: "+c.link, "Content-Type: application/json", "X-Registryd-Source: "+source)
		if string(g.body) != c.body {
			t.Errorf("%s: %s, want %s", c.query, g.body, c.body)
		}
	}
	g := h.get("/v2/_catalog?n=1")
	h.want(g, 200, `Link: </v2/_catalog?last=a&n=1>; rel="next"`)
	if string(g.body) != `{"repositories":["a"]}` {
		t.Errorf("catalog: %s", g.body)
	}
}
