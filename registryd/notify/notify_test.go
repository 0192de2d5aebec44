package notify

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"hostlocal/manifest"
)

func TestEventsComeInOrderAndWithWhatHappened(t *testing.T) {
	v := newReceiver(t, nil)
	h := newTester(t, Endpoint{Name: "ci", URL: v.URL, Actions: []string{Push, Delete, Pull}, Headers: map[string]string{"Authorization": "Bearer x"}})
	m := image(2)
	h.Pushed(request("PUT"), "team/app", m, "v1")
	h.Pulled(request("GET"), "docker.io/library/debian", m, 2, "")
	h.Deleted(request("DELETE"), "team/app", manifest.Digest{}, "v1")
	h.Deleted(request("DELETE"), "team/app", m.Digest, "")
	v.wantTags("v1", "", "v1", "")
	want := []Target{
		{MediaType: manifest.OCIManifest, Digest: m.Digest.String(), Size: 2, Length: 2, Repository: "team/app", Tag: "v1", URL: "http://registry.corp:5000/v2/team/app/manifests/" + m.Digest.String()},
		{MediaType: manifest.OCIManifest, Digest: m.Digest.String(), Size: 2, Length: 2, Repository: "docker.io/library/debian", URL: "http://registry.corp:5000/v2/docker.io/library/debian/manifests/" + m.Digest.String()},
		{Repository: "team/app", Tag: "v1"},
		{Repository: "team/app", Digest: m.Digest.String()},
	}
	ids := map[string]bool{}
	for i, action := range []string{Push, Pull, Delete, Delete} {
		e := v.got[i].event
		refs := e.Target.References
		e.Target.References = nil
		if fmt.Sprint(e.Target) != fmt.Sprint(want[i]) || e.Action != action {
			t.Errorf("event %d is %s of %+v, want %s of %+v", i, e.Action, e.Target, action, want[i])
		}
		if n := len(refs); i < 2 && (n != 3 || refs[0].Digest != m.Config.Digest.String() || refs[2].Size != 7) || i >= 2 && n != 0 {
			t.Errorf("event %d lists %v", i, refs)
		}
		if e.Request.Addr != "127.0.0.1:4711" || e.Request.Host != "registry.corp:5000" || e.Request.UserAgent != "docker/29" || e.Request.Method == "" {
			t.Errorf("event %d was asked for by %+v", i, e.Request)
		}
		if e.Source.Addr != "host:5000" || e.Source.InstanceID == "" || time.Since(e.Timestamp) > time.Minute || len(e.ID) != 36 {
			t.Errorf("event %d: %+v", i, e)
		}
		ids[e.ID] = true
		if head := v.got[i].header; head.Get("Content-Type") != mediaType || head.Get("Authorization") != "Bearer x" || head.Get(SignatureHeader) != "" {
			t.Errorf("event %d came with %v", i, head)
		}
	}
	if len(ids) != 4 {
		t.Errorf("the ids are %v", ids)
	}
}

func TestOnlyWhatIsWantedComes(t *testing.T) {
	all, some := newReceiver(t, nil), newReceiver(t, nil)
	h := newTester(t, Endpoint{Name: "all", URL: all.URL},
		Endpoint{Name: "some", URL: some.URL, Actions: []string{Push}, Repositories: []string{"team/*", "x/y"}})
	for i, repo := range []string{"team/app", "other/app", "team/deep/app", "x/y", "x/yz"} {
		h.Pushed(request("PUT"), repo, image(0), fmt.Sprint(i))
		h.Pulled(request("GET"), repo, image(0), 2, "pulled")
	}
	h.Deleted(request("DELETE"), "team/app", manifest.Digest{}, "5")
	all.wantTags("0", "1", "2", "3", "4", "5")
	some.wantTags("0", "2", "3")
}

func TestAManifestWithMoreThanAnImageListsNothing(t *testing.T) {
	v := newReceiver(t, nil)
	h := newTester(t, Endpoint{Name: "ci", URL: v.URL})
	for _, n := range []int{maxReferences - 1, maxReferences} {
		h.Pushed(request("PUT"), "team/app", image(n), fmt.Sprint(n))
	}
	v.wantTags(fmt.Sprint(maxReferences-1), fmt.Sprint(maxReferences))
	if a, b := len(v.got[0].event.Target.References), len(v.got[1].event.Target.References); a != maxReferences || b != 0 {
		t.Errorf("listed are %d and %d", a, b)
	}
}

// A manifest of strangers' words as long as it may be does not fill the queue.
func TestWhatAManifestSaysOfItsContentIsBounded(t *testing.T) {
	v := newReceiver(t, nil)
	h := newTester(t, Endpoint{Name: "ci", URL: v.URL})
	for i, n := range []int{1000, manifest.MaxSize / 2} {
		m := image(1)
		m.Layers[0].MediaType = strings.Repeat("<", n)
		h.Pushed(request("PUT"), "team/app", m, fmt.Sprint(i))
	}
	v.wantTags("0", "1")
	if a, b := len(v.got[0].event.Target.References), len(v.got[1].body); a == 0 || b > 4096 {
		t.Errorf("listed are %d, and the other has %d bytes", a, b)
	}
}

func TestWhatAClientSaysOfItselfIsBounded(t *testing.T) {
	v := newReceiver(t, nil)
	h := newTester(t, Endpoint{Name: "ci", URL: v.URL})
	r := request("PUT")
	r.Host, r.Method = strings.Repeat("h", 9999), strings.Repeat("P", 9999)
	r.Header.Set("User-Agent", strings.Repeat("\x00", 9999))
	h.Pushed(r, "team/app", image(0), "v1")
	v.wantTags("v1")
	if n := len(v.got[0].body); n > 4096 {
		t.Errorf("the event has %d bytes", n)
	}
}

func TestTheSignatureVerifies(t *testing.T) {
	v := newReceiver(t, nil)
	h := newTester(t, Endpoint{Name: "ci", URL: v.URL, Secret: "It's a Secret to Everybody"})
	h.push("v1")
	v.wantTags("v1")
	if got, want := v.got[0].header.Get("X-Registryd-Signature-256"), sign("It's a Secret to Everybody", v.got[0].body); got != want {
		t.Errorf("signed is %s, want %s", got, want)
	}
	// The example in GitHub's documentation of its webhooks.
	if got := sign("It's a Secret to Everybody", []byte("Hello, World!")); got != "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17" {
		t.Errorf("the documented example gives %s", got)
	}
}

func TestPullsAreToldOnceASecondAndNoMoreThanABound(t *testing.T) {
	w := &window{}
	at := func(ms int) time.Time { return time.Unix(1, int64(ms)*1e6) }
	p := pulled{repo: "a/b", tag: "v1"}
	for _, c := range []struct {
		ms   int
		want string
	}{{0, ""}, {1, Merged}, {999, Merged}, {1000, ""}, {1999, Merged}, {2500, ""}} {
		if got := w.admit(p, at(c.ms)); got != c.want {
			t.Errorf("after %d ms: %q, want %q", c.ms, got, c.want)
		}
	}
	told := 0
	for i := range 1000 {
		if w.admit(pulled{repo: fmt.Sprint(i)}, at(5000)) == "" {
			told++
		}
	}
	if told != maxPulls || len(w.seen) != maxPulls {
		t.Errorf("told %d, remembered %d", told, len(w.seen))
	}
	v := newReceiver(t, nil)
	h := newTester(t, Endpoint{Name: "ci", URL: v.URL, Actions: []string{Pull}}, Endpoint{Name: "other", URL: v.URL})
	for range 50 {
		h.Pulled(request("GET"), "team/app", image(1), 2, "v1")
	}
	await(t, func() bool { return h.result("ci merged")+h.result("ci sent") == 50 })
	if n := h.result("ci sent"); n > 2 || h.result("other merged") != 0 { // two if a second ended between
		t.Errorf("%d of 50 pulls were told", n)
	}
}

func TestWhereNobodyWantsPullsTheyCostNothing(t *testing.T) {
	h := newTester(t, Endpoint{Name: "ci", URL: "http://127.0.0.1:1"})
	r, m := request("GET"), image(3)
	if n := testing.AllocsPerRun(100, func() { h.Pulled(r, "team/app", m, 2, "v1") }); n != 0 {
		t.Errorf("%v allocations a pull", n)
	}
}

func TestADeadEndpointHoldsUpNobody(t *testing.T) {
	gate := make(chan struct{})
	dead := newReceiver(t, func(_ http.ResponseWriter, r *http.Request, _ Event) {
		select {
		case <-gate:
		case <-r.Context().Done():
		}
	})
	well := newReceiver(t, nil)
	h := newTester(t, Endpoint{Name: "dead", URL: dead.URL, Timeout: time.Hour}, Endpoint{Name: "well", URL: well.URL})
	var want []string
	for i := range 50 {
		want = append(want, fmt.Sprint(i))
		h.push(want[i])
	}
	well.wantTags(want...)
	await(t, func() bool { return h.Status()[1].Waiting == 0 })
	if s := h.Status(); s[0].Waiting != 50 {
		t.Errorf("they stand at %+v", s)
	}
	close(gate)
	dead.wantTags(want...)
}

func TestWhatEndpointsDoWrong(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request, e Event)
		told   string // of the status
	}{
		"500":             {func(w http.ResponseWriter, _ *http.Request, _ Event) { w.WriteHeader(500) }, "it answers 500 Internal Server Error"},
		"401":             {func(w http.ResponseWriter, _ *http.Request, _ Event) { w.WriteHeader(401) }, "it answers 401 Unauthorized: check the secret and the headers"},
		"429":             {func(w http.ResponseWriter, _ *http.Request, _ Event) { w.WriteHeader(429) }, "it answers 429 Too Many Requests"},
		"connection cut":  {func(http.ResponseWriter, *http.Request, Event) { panic(http.ErrAbortHandler) }, "EOF"},
		"never an answer": {func(_ http.ResponseWriter, r *http.Request, _ Event) { <-r.Context().Done() }, "context deadline exceeded"},
		"headers only": {func(w http.ResponseWriter, r *http.Request, _ Event) {
			w.Header().Set("Content-Length", "5")
			w.WriteHeader(503)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, "it answers 503 Service Unavailable"},
		"redirect": {func(w http.ResponseWriter, r *http.Request, _ Event) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		}, `it answers 307 Temporary Redirect to "http://127.0.0.1:1/", which is not followed: write the address that it leads to as url`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checked := make(chan struct{})
			v := newReceiver(t, nil)
			v.answer = func(w http.ResponseWriter, r *http.Request, e Event) {
				if len(v.tags()) == 1 {
					c.answer(w, r, e)
					return
				}
				<-checked
			}
			limit := 20 * time.Second
			if c.told == context.DeadlineExceeded.Error() {
				limit = 3 * time.Second
			}
			h := newTester(t, Endpoint{Name: "ci", URL: v.URL + "/?token=s3cret", Timeout: limit})
			h.push("v1", "v2")
			await(t, func() bool { return h.Status()[0].Trouble != "" })
			if s := h.Status()[0]; s.Trouble != c.told || s.Waiting != 2 || s.Since.IsZero() {
				t.Errorf("it stands at %+v, want trouble %q", s, c.told)
			}
			close(checked)
			v.wantTags("v1", "v1", "v2")
			if v.got[0].event.ID != v.got[1].event.ID {
				t.Error("the second attempt has another id")
			}
			await(t, func() bool { return h.Status()[0].Sent == 2 })
			if s := h.Status()[0]; s.Trouble != "" || s.Waiting != 0 {
				t.Errorf("it stands at %+v", s)
			}
			h.wantResult("ci failed", 1)
			h.wantResult("ci sent", 2)
		})
	}
}

// TestAStalledDiskHoldsUpNoPush makes a pipe that nobody reads of the file: opening
// it takes for ever.
func TestAStalledDiskHoldsUpNoPush(t *testing.T) {
	v := newReceiver(t, nil)
	h := newTester(t, Endpoint{Name: "ci", URL: v.URL})
	release := stall(t, h.options.File)
	var want []string
	begun := time.Now()
	for i := range 100 {
		want = append(want, fmt.Sprint(i))
		h.push(want[i])
	}
	// The first waits for publishLimit, and no other does.
	if took := time.Since(begun); took > 20*publishLimit {
		t.Errorf("100 pushes took %v", took)
	}
	v.wantTags(want...)
	release()
	h.push("after")
	await(t, func() bool { return !h.journal.stall.Load() })
	v.wantTags(append(want, "after")...)
}

func TestTooManyEndpointsAndTwoOfANameAreRefused(t *testing.T) {
	var many []Endpoint
	for i := range MaxEndpoints + 1 {
		many = append(many, Endpoint{Name: fmt.Sprint(i)})
	}
	for _, list := range [][]Endpoint{many, {{Name: "a"}, {Name: "a"}}} {
		if n, err := New(Options{Endpoints: list}); err == nil {
			n.Close(context.Background())
			t.Errorf("%d endpoints were taken", len(list))
		}
	}
	n, err := New(Options{Endpoints: many[1:]})
	if err != nil {
		t.Fatal(err)
	}
	n.Close(context.Background())
}

func TestIDsSortByTimeAndDiffer(t *testing.T) {
	var ids []string
	for i := range 1000 {
		ids = append(ids, newID(time.UnixMilli(int64(1e12)+int64(i))))
	}
	if !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != 1000 || ids[0][14] != '7' || !strings.ContainsRune("89ab", rune(ids[0][19])) {
		t.Errorf("the ids are %v", ids[:3])
	}
}
