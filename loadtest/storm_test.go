package loadtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"hostlocal/manifest"
)

func TestVegetaReadsTheResults(t *testing.T) {
	h := newHub(t, 1000)
	h.meddle(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("User-Agent") != containerd.agent && strings.Contains(r.URL.Path, "/blobs/") {
			http.Error(w, "", http.StatusServiceUnavailable)
			return true
		}
		return false
	})
	s := h.storm(scenario(10, "containerd, docker-classic"))
	var out bytes.Buffer
	s.Results = vegeta.NewEncoder(&out)
	m, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all vegeta.Metrics
	for dec := vegeta.NewDecoder(&out); ; {
		var r vegeta.Result
		if err := dec.Decode(&r); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all.Add(&r)
	}
	all.Close()
	requests, in := 0, uint64(0)
	for _, r := range m.Requests {
		requests += r.Count
		in += uint64(r.Bytes)
	}
	if int(all.Requests) != requests || all.BytesIn.Total != in || all.StatusCodes["503"] != m.Requests["blob"].Codes["503"] || len(all.Errors) == 0 {
		t.Errorf("%d requests of %d, %d bytes of %d, %v", all.Requests, requests, all.BytesIn.Total, in, all.StatusCodes)
	}
	if m.Wait.Count != 5 || len(m.Failures) != 1 || m.Failures[0].Count != 5 {
		t.Errorf("%d good pulls, %+v", m.Wait.Count, m.Failures)
	}
}

func TestFullDiskUnderTheResultsEndsTheWritingAlone(t *testing.T) {
	h := newHub(t, 1000)
	s := h.storm(scenario(10, "containerd"))
	full := errors.New("no space left")
	calls := 0
	s.Results = func(*vegeta.Result) error { calls++; return full }
	m, err := s.Run(t.Context())
	if !errors.Is(err, full) || calls != 1 {
		t.Errorf("error %v after %d results", err, calls)
	}
	wantGood(t, m)
}

func TestProgressIsTold(t *testing.T) {
	t.Parallel()
	h := newHub(t, 100<<10)
	s := h.storm(scenario(10, "containerd"))
	s.Scenario.Arrivals = Arrivals{Pace: "constant", Over: 2 * time.Second}
	var all []Progress
	s.Progress = func(p Progress) { all = append(all, p) }
	if _, err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, p := range all {
		if p.Total != 10 || p.Due < p.Done+p.Running || p.Done > 0 && p.P50 == 0 || i > 0 && p.Done < all[i-1].Done {
			t.Errorf("%+v", p)
		}
	}
	last := all[len(all)-1]
	if len(all) < 3 || last.Done != 10 || last.Running != 0 || last.ETA != 0 || last.Received < 1000<<10 || !slices.ContainsFunc(all, func(p Progress) bool { return p.ETA > 0 }) {
		t.Errorf("%d times, at last %+v", len(all), last)
	}
}

// pushes takes uploads as distribution does, into got.
func (h *hub) pushes(got map[string][]byte) {
	uploads := map[string][]byte{}
	var mu sync.Mutex
	h.meddle(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		b, _ := io.ReadAll(r.Body)
		switch r.Method {
		case "POST":
			w.Header().Set("Location", r.URL.Path+"1?state=x%20y")
			w.WriteHeader(202)
		case "PATCH":
			if r.URL.Query().Get("state") != "x y" {
				h.t.Errorf("PATCH %v lost the upload's state", r.URL)
			}
			uploads[r.URL.Path] = b
			w.Header().Set("Location", r.URL.RequestURI())
			w.WriteHeader(202)
		case "PUT":
			if d := r.URL.Query().Get("digest"); d != "" {
				b = uploads[r.URL.Path]
				if r.URL.Query().Get("state") != "x y" || manifest.DigestOf(b).String() != d {
					h.t.Errorf("PUT %v of %s", r.URL, manifest.DigestOf(b))
				}
			}
			got[manifest.DigestOf(b).String()] = b
			w.WriteHeader(201)
		default:
			return false
		}
		return true
	})
}

func TestPushWhilePull(t *testing.T) {
	h := newHub(t, 1000)
	got := map[string][]byte{}
	h.pushes(got)
	s := scenario(5, "containerd")
	s.Push, s.Images.Layers = true, []Size{100 << 10, 10}
	m := h.run(s)
	wantGood(t, m)
	if p := m.Requests["push"]; p.Count != 10 || p.Codes["201"] != 4 || p.Codes["202"] != 6 {
		t.Errorf("%+v", m.Requests)
	}
	layers := 0
	for _, b := range got {
		if p, err := manifest.Parse(b); err == nil {
			for _, d := range p.Blobs() {
				if int64(len(got[d.Digest.String()])) == d.Size {
					layers++
				}
			}
		}
	}
	if len(got) != 4 || layers != 3 {
		t.Errorf("%d things pushed, %d of them what the manifest names", len(got), layers)
	}
}

func TestPushThatIsRefusedIsAFailure(t *testing.T) {
	h := newHub(t, 1000)
	h.meddle(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == "POST" {
			http.Error(w, "this is a mirror", http.StatusMethodNotAllowed)
		}
		return r.Method == "POST"
	})
	s := scenario(5, "containerd")
	s.Push = true
	m := h.run(s)
	if len(m.Failures) != 1 || m.Failures[0].Kind != "push: status 405" || m.Wait.Count != 5 {
		t.Errorf("%d pulls, %+v", m.Wait.Count, m.Failures)
	}
}

func TestTooFewDescriptorsHoldTheLoadBackAndSaySo(t *testing.T) {
	h := newHub(t, 64<<10, 32<<10, 1<<10)
	s := h.storm(scenario(50, "containerd"))
	s.Connections = 7
	m, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantGood(t, m)
	if !strings.Contains(m.HeldBack, "connections waited for a free descriptor") {
		t.Errorf("held back by %q", m.HeldBack)
	}
}

func TestPullWithoutADescriptorIsTheToolsFailure(t *testing.T) {
	h := newHub(t, 10)
	h.meddle(func(w http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	})
	s := h.storm(scenario(20, "containerd"))
	s.Connections, s.Scenario.Timeout = 1, 300*time.Millisecond
	m, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, f := range m.Failures {
		kinds[f.Kind] = true
	}
	if !kinds["timeout"] || !kinds["out of descriptors"] || m.Wait.Count != 0 {
		t.Errorf("%+v", m.Failures)
	}
}

func TestWhatHeldTheToolBack(t *testing.T) {
	var pulls []Pull
	for range 100 {
		pulls = append(pulls, Pull{Start: lateAllowed})
	}
	pulls[0].Start = time.Minute
	if s := lateness(pulls); s != "" {
		t.Errorf("one late pull of 100: %q", s)
	}
	pulls[1].Start = time.Hour
	if s := lateness(pulls); !strings.HasPrefix(s, "2 of 100 pulls began late, by up to 1h0m0s") {
		t.Errorf("two late pulls: %q", s)
	}
	pulls[1].End = 21 * time.Hour
	if s := lateness(pulls); s != "" {
		t.Errorf("a pull that was late by less than a twentieth of its wait: %q", s)
	}
	for _, c := range []struct {
		tool, target, others int // of 1000 ms of all cores
		known                bool
		want                 string
	}{
		{950, 0, 0, true, "the tool used 0.9 of 1.0 core-seconds and the targets 0.0"},
		{950, 0, 0, false, "the tool used"},
		{500, 0, 0, true, ""},
		{500, 450, 0, true, ""},
		{800, 150, 0, true, "the tool used"},
		{500, 100, 300, true, "other processes used 0.3 of 1.0"},
		{500, 0, 400, false, ""},
	} {
		ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
		if s := blame(ms(c.tool), ms(c.target), ms(c.others), c.known, time.Second); !strings.HasPrefix(s, c.want) || c.want == "" && s != "" {
			t.Errorf("%+v: %q", c, s)
		}
	}
	if before := machineCPU(); before > 0 { // a machine that says it
		for began := ownCPU(); ownCPU() < began+100*time.Millisecond; {
		}
		if used := machineCPU() - before; used < 50*time.Millisecond {
			t.Errorf("a tenth of a second's work is %v of the machine", used)
		}
	}
}

func TestStormsThatCannotBegin(t *testing.T) {
	h := newHub(t, 10)
	for want, change := range map[string]func(s *Storm){
		"clients.count":         func(s *Storm) { s.Scenario.Clients.Count = 0 },
		"against 0 targets":     func(s *Storm) { s.Targets = nil },
		"a storm of 0 pulls":    func(s *Storm) { s.Jobs = nil },
		"not a registry's URL":  func(s *Storm) { s.Targets[0].URL = "127.0.0.1:5000" },
		`of "../x" with tag`:    func(s *Storm) { s.Jobs[0].Repo = "../x" },
		`with tag "a b"`:        func(s *Storm) { s.Jobs[0].Tag = "a b" },
		"from target 1, is not": func(s *Storm) { s.Jobs[0].Daemon = 1 },
	} {
		s := h.storm(scenario(1, ""))
		change(s)
		if _, err := s.Run(context.Background()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %q", err, want)
		}
	}
}

func TestPullByDigestAsksForNoTag(t *testing.T) {
	h := newHub(t, 10)
	s := h.storm(scenario(2, "docker-classic, podman"))
	s.Targets[0].Prefix = "hub.test/"
	for i := range s.Jobs {
		s.Jobs[i].Digest = manifest.MustDigest(h.tags["v1"])
	}
	m, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantGood(t, m)
	if h.requests("HEAD") != 0 || h.requests("GET /v2/hub.test/library/app/manifests/sha256:") != 4 || m.Requests["tag"].Count != 0 {
		t.Errorf("%q", h.log)
	}
}

func TestMeasurementGoesThroughJSON(t *testing.T) {
	m := newHub(t, 10).run(scenario(2, ""))
	b, err := json.Marshal(m)
	var back Measurement
	if err != nil || json.Unmarshal(b, &back) != nil || back.Wait != m.Wait || len(back.Pulls) != 2 {
		t.Errorf("%v: %s", err, b)
	}
}
