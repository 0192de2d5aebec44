package registryd

import (
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"testing"

	"hostlocal/manifest"
)

// listener notes the pulls that it is told of.
type listener struct {
	Events
	mu    sync.Mutex
	pulls []string
}

func (l *listener) Pulled(r *http.Request, repo string, m *manifest.Manifest, size int64, tag string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pulls = append(l.pulls, fmt.Sprintf("%s %s:%s %d bytes of %s", r.Method, repo, tag, size, m.Digest))
}

// TestAPullIsToldIfAllOfAManifestWasSent and not for what only looks like one.
func TestAPullIsToldIfAllOfAManifestWasSent(t *testing.T) {
	l := &listener{}
	h := newTester(t, HandlerOptions{Events: l})
	body := `{"schemaVersion":2}`
	h.manifest("team/app", "v1", body)
	d := manifest.DigestOf([]byte(body))
	path := "/v2/team/app/manifests/v1"
	h.get(path)
	h.get(path, `If-None-Match: "another"`) // sent by http.ServeContent
	h.do("HEAD", path)
	h.get(path, `If-None-Match: "`+d.String()+`"`)
	h.get(path, "Range: bytes=0-3")
	h.get("/v2/team/app/manifests/absent")
	h.get("/v2/")
	h.client.CloseIdleConnections()
	h.settled(0, 0) // all are done
	want := fmt.Sprintf("GET team/app:v1 %d bytes of %s", len(body), d)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !reflect.DeepEqual(l.pulls, []string{want, want}) {
		t.Errorf("told are %q, want %q twice", l.pulls, want)
	}
}
