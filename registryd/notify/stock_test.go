package notify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"hostlocal/cmd/testdeps/need"
	"hostlocal/manifest"
)

// TestTheStockRegistrySaysItWithTheSameKeys has a stock registry and ours tell of the
// same push, pull and deletes, and compares all but what has to differ: ids, times
// and addresses.
func TestTheStockRegistrySaysItWithTheSameKeys(t *testing.T) {
	bodies := make(chan []byte, 100)
	theirs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if got := r.Header.Get("Content-Type"); r.Method != http.MethodPost || got != mediaType {
			t.Errorf("the stock registry sends %s of %s", r.Method, got)
		}
		bodies <- b
	}))
	defer theirs.Close()
	base := stock(t, theirs.URL)
	do := func(method, url, contentType string, body []byte) *http.Response {
		t.Helper()
		if !strings.HasPrefix(url, "http") {
			url = base + url
		}
		r, err := http.NewRequest(method, url, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Accept", manifest.OCIManifest)
		r.Header.Set("User-Agent", "docker/29")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode >= 300 {
			t.Fatalf("%s %s: %s", method, url, res.Status)
		}
		return res
	}
	defer http.DefaultClient.CloseIdleConnections()
	part := func(mediaType, content string) manifest.Descriptor {
		d := manifest.DigestOf([]byte(content))
		at := do("POST", "/v2/team/app/blobs/uploads/", "", nil).Header.Get("Location")
		do("PUT", at+"&digest="+d.String(), "application/octet-stream", []byte(content))
		<-bodies // tells of the blob, which ours does not
		return manifest.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(content))}
	}
	config, layer := part("application/vnd.oci.image.config.v1+json", "{}"), part("application/vnd.oci.image.layer.v1.tar", "layer")
	m := &manifest.Manifest{MediaType: manifest.OCIManifest, Config: &config, Layers: []manifest.Descriptor{layer}}
	m.Body, _ = json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": m.MediaType, "config": config, "layers": m.Layers})
	m.Digest = manifest.DigestOf(m.Body)

	v := newReceiver(t, nil)
	h := newTester(t, Endpoint{Name: "ci", URL: v.URL, Actions: []string{Push, Pull, Delete}})
	ask := func(method string) *http.Request {
		r := request(method)
		r.Host = strings.TrimPrefix(base, "http://")
		return r
	}
	byTag, byDigest := "/v2/team/app/manifests/v1", "/v2/team/app/manifests/"+m.Digest.String()
	do("PUT", byTag, m.MediaType, m.Body)
	do("GET", byTag, "", nil)
	do("GET", byDigest, "", nil)
	do("DELETE", byTag, "", nil)
	do("DELETE", byDigest, "", nil)
	do("DELETE", "/v2/team/app/blobs/"+layer.Digest.String(), "", nil)
	h.Pushed(ask("PUT"), "team/app", m, "v1")
	h.Pulled(ask("GET"), "team/app", m, int64(len(m.Body)), "v1")
	h.Pulled(ask("GET"), "team/app", m, int64(len(m.Body)), "")
	h.Deleted(ask("DELETE"), "team/app", manifest.Digest{}, "v1")
	h.Deleted(ask("DELETE"), "team/app", m.Digest, "")
	h.Deleted(ask("DELETE"), "team/app", layer.Digest, "")
	v.wantTags("v1", "v1", "", "v1", "", "")
	for i, d := range v.got {
		want, got := flat(t, <-bodies), flat(t, d.body)
		if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
			t.Errorf("event %d has the keys\n%v\nand the stock registry's\n%v", i, got, want)
		}
		for key, value := range want {
			switch key {
			case "events.0.id", "events.0.timestamp", "events.0.request.id", "events.0.request.addr", "events.0.source.addr", "events.0.source.instanceID":
			default:
				if got[key] != value {
					t.Errorf("event %d: %s is %v, and the stock registry's %v", i, key, got[key], value)
				}
			}
		}
	}
}

// flat returns the leaves of a JSON value by their paths, empty objects too.
func flat(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	leaves := map[string]any{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			if len(v) == 0 {
				leaves[strings.TrimPrefix(path, ".")] = "{}"
			}
			for key, x := range v {
				walk(path+"."+key, x)
			}
		case []any:
			for i, x := range v {
				walk(fmt.Sprint(path, ".", i), x)
			}
		default:
			leaves[strings.TrimPrefix(path, ".")] = v
		}
	}
	walk("", v)
	return leaves
}

// stock starts a stock registry that tells an endpoint of all, and returns its URL.
func stock(t *testing.T, endpoint string) string {
	t.Helper()
	return need.Registry(t, fmt.Sprintf(`version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}
http: {addr: '127.0.0.1:0'}
notifications:
  events: {includereferences: true}
  endpoints: [{name: test, url: %q, timeout: 1s, threshold: 3, backoff: 1s}]
`, t.TempDir(), endpoint))
}
