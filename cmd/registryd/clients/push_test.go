package clients

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// fleet is two daemons on one bucket, which take pushes from this host, and the
// hub that they mirror.
type fleet struct {
	hub          *hub
	bucket       bucket
	here, beside *daemon
}

func startFleet(t *testing.T, kind string) fleet {
	t.Helper()
	f := fleet{hub: startHub(t), bucket: bucketKinds[kind](t)}
	f.here = startDaemon(t, setup{store: f.bucket.store, env: bucketCredentials, push: true})
	f.beside = startDaemon(t, setup{host: 1, store: f.bucket.store, env: bucketCredentials, push: true})
	return f
}

// A round is a bucket, how the hub is meanwhile, and who pulls what a client pushed:
// the client that comes so many after it.
type round struct {
	bucket string
	hub    func(*hub)
	here   int // through the daemon that was pushed to; 0 for nobody
	beside int // through the other one
	large  int // of every three clients, the one whose image has a blob that a bucket gets in parts
}

// rounds have each client in each role on each bucket, with others each time. A
// network without a hub either says so at once or says nothing.
var rounds = []round{
	{"folder", func(*hub) {}, 3, 1, 0},
	{"minio", func(h *hub) { h.goAway() }, 0, 5, 1},
	{"versitygw", func(h *hub) { h.silent.Store(true) }, 0, 7, 2},
}

// TestClientsPullWhatOthersPush has every client push an image through one daemon,
// and others pull it through that one and through another on the same bucket, which
// was asked for it just before: in vain. In two of the rounds there is no hub.
func TestClientsPullWhatOthersPush(t *testing.T) {
	clients := pushers(t)
	for n, r := range rounds {
		t.Run(r.bucket, func(t *testing.T) {
			f := startFleet(t, r.bucket)
			r.hub(f.hub)
			for i, from := range clients {
				t.Run(from.name, func(t *testing.T) {
					t.Parallel() // most of it is waiting: for clients, and for a hub that says nothing
					// A name that nobody claims, and that is in no client's memory.
					repo := fmt.Sprintf("team%d/%s", n, from.name)
					l := makeLocal(t, fmt.Sprintf("hello from %s in round %d", from.name, n),
						pick(i%3 == r.large, largeBulk, smallBulk), f.here.addr+"/"+repo+":v1")
					digest := f.push(t, from, l, repo)
					after := func(n int) pusher { return clients[(i+n)%len(clients)] }
					if r.here > 0 {
						f.here.pulledBy(t, after(r.here), l, repo, digest)
					}
					f.beside.pulledBy(t, after(r.beside), l, repo, digest)
				})
			}
		})
	}
}

func pick[V any](first bool, a, b V) V {
	if first {
		return a
	}
	return b
}

// push has a client push to tag v1 of repo, which nobody has before and all have
// after. It returns the manifest's digest.
func (f fleet) push(t *testing.T, from pusher, l local, repo string) string {
	t.Helper()
	f.wantMissing(t, repo)
	began := time.Now()
	if out, err := from.push(l, f.here.addr+"/"+repo+":v1"); err != nil {
		t.Fatalf("push by %s: %v\n%s", from.name, err, out)
	}
	t.Logf("pushed in %s", time.Since(began).Round(time.Millisecond))
	digest := f.wantSame(t, repo)
	for _, d := range []*daemon{f.beside, f.here} {
		wantWhole(t, d.addr+"/"+repo+":v1")
	}
	return digest
}

// pulledBy has a client pull tag v1 of repo from the daemon and look at what it got.
func (d *daemon) pulledBy(t *testing.T, to pusher, l local, repo, digest string) {
	t.Helper()
	began := time.Now()
	seen, err := to.pull(d.addr + "/" + repo + ":v1")
	if err != nil {
		t.Errorf("pull by %s from %s: %v\n%s", to.name, d.addr, err, seen)
	} else if !strings.Contains(seen, l.hello) && !strings.Contains(seen, digest) {
		t.Errorf("%s pulled something, but neither %q nor %s is in what is seen of it:\n%s", to.name, l.hello, digest, seen)
	}
	t.Logf("pulled by %s in %s", to.name, time.Since(began).Round(time.Millisecond))
}

// manifestTypes are what a client of today accepts.
const manifestTypes = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, " +
	"application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"

// manifest asks the daemon for one, and returns the status, and its digest, for which
// the body has to be right.
func (d *daemon) manifest(t *testing.T, repo, reference string) (status int, digest string) {
	t.Helper()
	resp, body := d.ask(t, repo, reference)
	digest = resp.Header.Get("Docker-Content-Digest")
	if sum := fmt.Sprintf("sha256:%x", sha256.Sum256(body)); resp.StatusCode == http.StatusOK && sum != digest {
		t.Errorf("%s/%s:%s has digest %s and says %s", d.addr, repo, reference, sum, digest)
	}
	return resp.StatusCode, digest
}

// ask asks the daemon for a manifest.
func (d *daemon) ask(t *testing.T, repo, reference string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.addr+"/v2/"+repo+"/manifests/"+reference, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", manifestTypes)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

// wantMissing fails the test if any of the daemons has the tag v1.
func (f fleet) wantMissing(t *testing.T, repo string) {
	t.Helper()
	for _, d := range []*daemon{f.here, f.beside} {
		if status, _ := d.manifest(t, repo, "v1"); status == http.StatusOK {
			t.Errorf("%s has %s:v1 already", d.addr, repo)
		}
	}
}

// wantSame returns the digest of tag v1, which the daemons have to agree about.
func (f fleet) wantSame(t *testing.T, repo string) string {
	t.Helper()
	status, digest := f.beside.manifest(t, repo, "v1") // who was not pushed to first
	if status != http.StatusOK {
		t.Fatalf("the daemon beside says %d about what was pushed a moment ago", status)
	}
	if status, other := f.here.manifest(t, repo, "v1"); status != http.StatusOK || other != digest {
		t.Fatalf("pushed to: %d %s, beside: %s", status, other, digest)
	}
	return digest
}
