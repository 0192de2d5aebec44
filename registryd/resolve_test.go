package registryd

import (
	"testing"
	"time"

	"hostlocal/manifest"
)

func TestABareNameIsOwnIfTheBucketSaysSo(t *testing.T) {
	within(t, func(w *world) {
		w.bucket.push(w.t, "team/app:v1", "one")
		if r := w.repo("team/app"); !r.Name.IsOwn() || r.Why != whyOwnAnswered {
			w.t.Fatalf("%+v", r)
		}
		if r := w.repo("team/other"); r.Name != (manifest.Name{Host: "docker.io", Path: "team/other"}) {
			w.t.Fatalf("%+v", r)
		}
		before := w.bucket.count("")
		for range 10 {
			w.repo("team/app")
			w.repo("team/other")
		}
		w.wantCalls(&w.bucket.calls, "", before)
		w.bucket.push(w.t, "team/other:v1", "one")
		time.Sleep(decisionTTL)
		if r := w.repo("team/other"); !r.Name.IsOwn() {
			w.t.Fatal("the push did not make it own")
		}
	})
}

func TestABareNameIsWhatTheBucketSaidLastWhileItIsOut(t *testing.T) {
	within(t, func(w *world) {
		w.bucket.push(w.t, "team/app:v1", "one")
		w.repo("team/app")
		w.pull("team/other:v1", w.hub.push(w.t, "team/other:v1", "two"))
		for _, fault := range []func(){func() { w.bucket.fail("", errOutage) }, func() { w.bucket.stall("") }} {
			fault()
			w.restart()
			w.took(500*time.Millisecond, func() {
				if r := w.repo("team/app"); !r.Name.IsOwn() || r.Why != whyOwnRemembered {
					w.t.Fatalf("%+v", r)
				}
				if r := w.repo("team/other"); r.Name.IsOwn() || r.Why != whyNotOwnRemembered {
					w.t.Fatalf("%+v", r)
				}
			})
			w.took(10*time.Second, func() {
				_, err := w.g.Resolve(w.t.Context(), "team/new", "")
				w.wantOutage(err)
			})
		}
	})
}

func TestNamesThatSayThemselvesAskNobody(t *testing.T) {
	within(t, func(w *world) {
		w.bucket.stall("")
		for _, c := range []struct {
			path, ns string
			want     manifest.Name
		}{
			{"debian", "", manifest.Name{Host: "docker.io", Path: "library/debian"}},
			{"team/app", "ghcr.io", manifest.Name{Host: "ghcr.io", Path: "team/app"}},
			{"ghcr.io/team/app", "", manifest.Name{Host: "ghcr.io", Path: "team/app"}},
			{"own/app", "", manifest.Name{Path: "own/app"}},
		} {
			r, err := w.g.Resolve(w.t.Context(), c.path, c.ns)
			if err != nil || r.Name != c.want {
				w.t.Fatalf("%+v: %+v, %v", c, r, err)
			}
		}
		w.wantCalls(&w.bucket.calls, "", 0)
	})
}

func TestAnOwnRepositoryNeverFallsThrough(t *testing.T) {
	within(t, func(w *world) {
		w.bucket.push(w.t, "team/app:v1", "one")
		w.hub.push(w.t, "team/app:v2", "evil")
		_, err := w.get("team/app:v2")
		w.wantMiss(err)
		w.wantCalls(&w.hub.calls, "", 0)
	})
}

func TestRepositoryIsTheReverseOfItsName(t *testing.T) {
	within(t, func(w *world) {
		for _, name := range []string{"debian", "ghcr.io/a/b", "own/app"} {
			r := w.repo(name)
			if got := w.g.repository(r.String()); got.Name != r.Name {
				w.t.Errorf("%s: %+v, want %+v", r, got.Name, r.Name)
			}
		}
	})
}
