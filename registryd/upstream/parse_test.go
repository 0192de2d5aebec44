package upstream

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestChallengesAsRegistriesWriteThem(t *testing.T) {
	bearer := func(kv ...string) challenge {
		ch := challenge{"bearer", map[string]string{}}
		for i := 0; i < len(kv); i += 2 {
			ch.params[kv[i]] = kv[i+1]
		}
		return ch
	}
	basic := challenge{"basic", map[string]string{"realm": "Registry Realm"}}
	for header, want := range map[string][]challenge{
		`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull"`: {
			bearer("realm", "https://auth.docker.io/token", "service", "registry.docker.io", "scope", "repository:library/x:pull")},
		`Basic realm="Registry Realm"`: {basic},
		`Negotiate, Basic realm="Registry Realm", BEARER realm=https://h/t?a=b,scope="a b, c"`: {
			{"negotiate", map[string]string{}}, basic, bearer("realm", "https://h/t?a=b", "scope", "a b, c")},
		`Bearer realm = "a\"b" , service=x`: {bearer("realm", `a"b`, "service", "x")},
		`Bearer`:                            {bearer()},
		`Bearer realm="unfinished`:          {bearer()},
		``:                                  nil,
		`,,, "quoted"`:                      nil,
	} {
		if got := parseChallenges([]string{header}); !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n got %v\nwant %v", header, got, want)
		}
	}
}

func FuzzChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://auth.docker.io/token",service="registry.docker.io"`)
	f.Add(`Basic realm=x, Bearer a="\"", =`)
	f.Fuzz(func(t *testing.T, header string) {
		n := 0
		for _, ch := range parseChallenges([]string{header}) {
			n += len(ch.scheme)
			if ch.scheme == "" || ch.scheme != strings.ToLower(ch.scheme) {
				t.Fatalf("scheme %q", ch.scheme)
			}
			for k, v := range ch.params {
				n += len(k) + len(v)
			}
		}
		if n > 2*len(header) { // lower case may be longer, but not twice
			t.Fatalf("%d bytes out of %d", n, len(header))
		}
	})
}

func TestContentRanges(t *testing.T) {
	for v, want := range map[string][3]int64{
		"bytes 0-9/100": {0, 9, 100}, "bytes 5-5/6": {5, 5, 6}, "bytes 7-8/*": {7, 8, -1},
	} {
		first, last, size, ok := contentRange(v)
		if !ok || [3]int64{first, last, size} != want {
			t.Errorf("%s: %d-%d of %d, %v", v, first, last, size, ok)
		}
	}
	for _, v := range []string{"", "bytes", "bytes 0-9", "0-9/10", "bytes 9-0/10", "bytes 0-10/10", "bytes -1-5/10", "bytes +1-5/10",
		"bytes 0-9/-1", "bytes */10", "bytes 0-99999999999999999999/*", "bytes 0x1-5/10", "items 0-9/10"} {
		if _, _, _, ok := contentRange(v); ok {
			t.Errorf("%q was taken", v)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-9/100")
	f.Add("bytes 0-9/*")
	f.Fuzz(func(t *testing.T, v string) {
		first, last, size, ok := contentRange(v)
		if ok && (first < 0 || last < first || size >= 0 && last >= size) {
			t.Fatalf("%q: %d-%d/%d", v, first, last, size)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "999999": maxRetryAfter,
		now.Add(90 * time.Second).Format(http.TimeFormat):  90 * time.Second,
		now.Add(-90 * time.Second).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {v}}, now); got != want {
			t.Errorf("Retry-After: %s means %v, not %v", v, got, want)
		}
	}
}

func TestNextPages(t *testing.T) {
	tags := []string{"a", "b"}
	for link, want := range map[string]string{
		`</v2/app/tags/list?last=b&n=2>; rel="next"`:            "b",
		`<https://h/v2/app/tags/list?n=2&last=x%2Fy>; rel=next`: "x/y",
		`</v2/app/tags/list?next_page=opaque&n=2>; rel="next"`:  "b",
		`</v2/app/tags/list?last=b>; rel="prev"`:                "",
		`/v2/app/tags/list?last=b`:                              "",
		``:                                                      "",
	} {
		if got := nextPage([]string{link}, tags); got != want {
			t.Errorf("%s: next %q, not %q", link, got, want)
		}
	}
	if got := nextPage([]string{`</v2/app/tags/list?last=b>; rel="next"`}, nil); got != "" {
		t.Errorf("an empty page leads on to %q", got)
	}
}

func TestTokenAges(t *testing.T) {
	for seconds, want := range map[float64]time.Duration{0: 54 * time.Second, -5: 54 * time.Second, 300: 270 * time.Second, 0.1: time.Second, 1e18: 54 * time.Minute} {
		if got := tokenAge(seconds); got != want {
			t.Errorf("a token of %g s is used for %v, not %v", seconds, got, want)
		}
	}
}

func TestManifestTypes(t *testing.T) {
	const oci, docker = "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"
	for _, c := range []struct{ body, sentAs, want string }{
		{`{"schemaVersion":2,"mediaType":"` + docker + `"}`, oci, docker},
		{`{"schemaVersion":2,"config":{}}`, oci, oci},
		{`{"schemaVersion":2,"config":{}}`, "application/json", oci},
		{`{"schemaVersion":2,"manifests":[]}`, "", "application/vnd.oci.image.index.v1+json"},
		{`{"schemaVersion":1,"config":{}}`, oci, ""},
		{`{"schemaVersion":2,"mediaType":"text/html"}`, oci, ""},
		{`{"errors":[]}`, oci, ""}, {`<html>`, oci, ""}, {``, oci, ""}, {`[]`, oci, ""},
	} {
		if got := manifestType([]byte(c.body), c.sentAs); got != c.want {
			t.Errorf("%s sent as %s is %q, not %q", c.body, c.sentAs, got, c.want)
		}
	}
}
