package upstream

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"hostlocal/manifest"
)

// referrersClient is a client of an origin that answers with answer.
func referrersClient(t *testing.T, answer http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	c, err := New(Config{Name: "hub.test", URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

var subject = manifest.DigestOf([]byte("subject"))

// referrer is an index of one entry, whose digest comes of name.
func referrer(name string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":1,"artifactType":%q}]}`, manifest.OCIManifest, manifest.DigestOf([]byte(name)), name)
}

func TestReferrersFollowsPages(t *testing.T) {
	path := "/v2/library/app/referrers/" + subject.String()
	c := referrersClient(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path {
			t.Errorf("asked for %s", r.URL)
		}
		switch r.URL.Query().Get("page") {
		case "":
			w.Header().Set("Link", "<"+path+`?page=2>; rel="next"`)
		case "2":
			w.Header().Set("Link", `<?page=3>; rel="next"`)
		}
		fmt.Fprint(w, referrer("p"+r.URL.Query().Get("page")))
	})
	list, err := c.Referrers(t.Context(), "library/app", subject)
	if err != nil || len(list) != 3 || list[2].ArtifactType != "p3" {
		t.Errorf("%v, %v", list, err)
	}
}

func TestReferrersOfAnOriginWithoutTheAPIAreAMiss(t *testing.T) {
	for _, status := range []int{404, 405, 501} {
		c := referrersClient(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		_, err := c.Referrers(t.Context(), "library/app", subject)
		(&tester{T: t}).wantMissing(err)
	}
}

func TestHostileReferrersAreAnOutage(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"a page for people": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"no object":         func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "null") },
		"no digest":         func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"manifests":[{"size":1}]}`) },
		"too much":          func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat(" ", manifest.MaxSize+1)) },
		"for ever": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "<?page=1"+r.URL.Query().Get("page")+`>; rel="next"`)
			fmt.Fprint(w, referrer("x"))
		},
		"large pages": func(w http.ResponseWriter, r *http.Request) {
			page, _ := strconv.Atoi(r.URL.Query().Get("page"))
			if page < 5 {
				w.Header().Set("Link", fmt.Sprintf(`<?page=%d>; rel="next"`, page+1))
			}
			fmt.Fprint(w, referrer("x")+strings.Repeat(" ", manifest.MaxSize/2))
		},
		"elsewhere": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", `<https://elsewhere.test/v2/x?page=2>; rel="next"`)
			fmt.Fprint(w, referrer("x"))
		},
		"the same page": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", `<`+r.URL.Path+`>; rel="next"`)
			fmt.Fprint(w, referrer("x"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := referrersClient(t, answer).Referrers(t.Context(), "library/app", subject)
			(&tester{T: t}).wantOutage(err)
		})
	}
}
