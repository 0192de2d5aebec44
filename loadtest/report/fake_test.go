package report

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"hostlocal/loadtest"
)

var writeTo = flag.String("report.write", "", "write the pages of the made-up reports to this folder, to look at them")

// A sample makes up reports that look like real ones: waits with a tail, usage that
// climbs, the same for the same seed.
type sample struct{ *rand.Rand }

func newSample(seed uint64) sample { return sample{rand.New(rand.NewPCG(seed, 17))} }

func scenario(name string, clients int) loadtest.Scenario {
	return loadtest.Scenario{
		Name: name, Description: "A hundred hosts start the same deploy within a second, and none of them has the image.", Seed: 7,
		Images:   loadtest.Images{Count: 1, Layers: []loadtest.Size{20 << 20, 3 << 20, 1 << 20, 3721}},
		Clients:  loadtest.Clients{Count: clients, Profile: "containerd"},
		Arrivals: loadtest.Arrivals{Pace: "burst", Over: time.Second},
		Upstream: loadtest.Line{Latency: 40 * time.Millisecond, ConnectionRate: 16 << 20, TotalRate: 64 << 20, Token: true},
		Faults:   []loadtest.Fault{{At: 2 * time.Second, For: time.Second, Kind: "stall"}},
		Timeout:  2 * time.Minute, Assert: []string{"amplification<=1.01", "errors==0"},
	}
}

func (s sample) report(name string, clients int, cs ...loadtest.Contender) loadtest.Report {
	return loadtest.Report{
		Version: "v0.4.0-12-ge04db3b", Command: []string{"registryd", "loadtest", "run", name, "--compare", "registryd,distribution,zot,nginx", "--rounds", "5"},
		Machine: loadtest.Machine{Host: "build-7", OS: "Linux 6.12.9", CPU: "AMD EPYC 7763", Cores: 2, Memory: 8 << 30, Go: "go1.26.8"},
		Started: time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC), Wall: 11*time.Minute + 40*time.Second,
		Scenario:   scenario(name, clients),
		Tool:       loadtest.Calibration{PullsPerSecond: 2412, RequestsPerSecond: 31844, BytesPerSecond: 1.9e9, Clients: 9000},
		Contenders: cs,
	}
}

// A habit is how a contender behaves.
type habit struct {
	wait, spread  float64 // seconds of a typical pull; sigma of its logarithm
	amplification float64
	cpu           float64 // CPU-s/GiB
	rss           float64
	failing       float64
	sources       map[string]float64
}

func (s sample) contender(name string, rounds, clients int, h habit) loadtest.Contender {
	c := loadtest.Contender{Name: name, Version: name + " v3.1.2", Settings: []string{"proxy.remoteurl: http://127.0.0.1:5000", "storage: filesystem"}}
	for range rounds {
		c.Rounds = append(c.Rounds, s.measurement(clients, h))
	}
	return c
}

func (s sample) measurement(clients int, h habit) loadtest.Measurement {
	const image = 24 << 20
	noise := math.Exp(s.NormFloat64() * 0.03)
	m := loadtest.Measurement{
		Began: time.Date(2026, 11, 21, 9, 31, 0, 0, time.UTC), Wanted: image, Requests: map[string]loadtest.RequestTotals{},
		Sources: map[string]int64{},
	}
	kinds := []string{"status 503", "connection reset", "timeout", "wrong digest"}
	failures := map[string]*loadtest.Failures{}
	for i := range clients {
		due := time.Duration(s.Float64() * float64(time.Second))
		wait := seconds2(h.wait * noise * math.Exp(s.NormFloat64()*h.spread))
		p := loadtest.Pull{Client: i, Image: "library/app:v1", Due: due, Start: due + seconds2(s.Float64()*0.01), End: due + wait, FirstByte: wait / 20, Bytes: image, Requests: 8}
		if s.Float64() < h.failing {
			p.Failure = kinds[min(int(s.ExpFloat64()), 3)]
			p.End = due + wait/3
			p.Bytes /= 4
			f := failures[p.Failure]
			if f == nil {
				f = &loadtest.Failures{Kind: p.Failure}
				failures[p.Failure] = f
			}
			f.Count++
			if len(f.Examples) < 3 {
				f.Examples = append(f.Examples, fmt.Sprintf(`GET http://127.0.0.1:5000/v2/library/app/blobs/sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08: %s after %d bytes of 20971520`, p.Failure, s.IntN(1<<20)))
			}
		}
		m.Received += p.Bytes
		m.Wall = max(m.Wall, p.End)
		m.Pulls = append(m.Pulls, p)
	}
	m.Verified = m.Received
	m.Wait, m.FirstByte = summarize(m.Pulls, pullWait), summarize(m.Pulls, pullFirstByte)
	m.Requests["blob"] = loadtest.RequestTotals{Count: 5 * clients, Codes: map[string]int{"200": 5 * clients}, Bytes: m.Received, Latency: m.Wait}
	m.Requests["manifest"] = loadtest.RequestTotals{Count: 2 * clients, Codes: map[string]int{"200": 2*clients - 3, "429": 2, "0": 1}, Bytes: int64(clients) * 5000, Latency: m.FirstByte}
	m.Requests["tag"] = loadtest.RequestTotals{Count: clients, Codes: map[string]int{"200": clients}, Latency: m.FirstByte}
	for source, part := range h.sources {
		m.Sources[source] = int64(part * float64(m.Received))
	}
	m.Upstream = loadtest.Traffic{Requests: map[string]int{"blob": int(4 * max(h.amplification, 0)), "manifest": 2}, Sent: int64(h.amplification * image)}
	m.CPU = seconds2(h.cpu * noise * float64(m.Received) / gib)
	const samples = 60
	for i := range samples + 1 {
		at := float64(i) / samples
		m.Usage = append(m.Usage, loadtest.Usage{
			At: time.Duration(at * float64(m.Wall)), CPU: time.Duration(at * at * (3 - 2*at) * float64(m.CPU)), RSS: int64(h.rss * (.4 + .6*math.Sqrt(at) + .03*s.Float64())),
			Threads: 12, Goroutines: int(float64(clients) * 3 * math.Sin(math.Pi*at)), Descriptors: 20 + int(float64(clients)*2*math.Sin(math.Pi*at)), Disk: int64(at * image),
		})
	}
	for _, kind := range kinds {
		if f := failures[kind]; f != nil {
			m.Failures = append(m.Failures, *f)
		}
	}
	return m
}

func seconds2(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func summarize(pulls []loadtest.Pull, pick func(loadtest.Pull) (time.Duration, bool)) loadtest.Quantiles {
	var ds []time.Duration
	var sum time.Duration
	for _, p := range pulls {
		if d, ok := pick(p); ok {
			ds = append(ds, d)
			sum += d
		}
	}
	if len(ds) == 0 {
		return loadtest.Quantiles{}
	}
	slices.Sort(ds)
	at := func(q float64) time.Duration { return ds[min(int(q*float64(len(ds))), len(ds)-1)] }
	return loadtest.Quantiles{Count: len(ds), Mean: sum / time.Duration(len(ds)), P50: at(.5), P90: at(.9), P99: at(.99), P999: at(.999), Max: ds[len(ds)-1]}
}

var habits = map[string]habit{
	"registryd":    {2.4, .12, 1, 1.1, 71 << 20, 0, map[string]float64{"disk": .62, "fill": .37, "upstream": .01}},
	"distribution": {29, .2, 98.4, 4.2, 310 << 20, 0, nil},
	"zot":          {9, .08, 3, 3.1, 520 << 20, .02, nil},
	"nginx":        {2.2, .1, 1, .7, 24 << 20, 0, nil},
}

func (s sample) comparison(rounds, clients int, names ...string) loadtest.Report {
	var cs []loadtest.Contender
	for _, n := range names {
		cs = append(cs, s.contender(n, rounds, clients, habits[n]))
	}
	r := s.report("cold-herd", clients, cs...)
	var as []Assertion
	for _, text := range []string{"amplification<=1.01", "p99(pull)<=3s", "errors==0", "wall/wall(nginx)<=1.3", "rss_peak<=128MiB", "p99(pull)/p99(pull,nginx)<=3"} {
		a, err := ParseAssertion(text)
		if err != nil {
			panic(err)
		}
		as = append(as, a)
	}
	r.Verdicts = Check(r, as)
	return r
}

func (s sample) ladder(names ...string) loadtest.Report {
	r := s.report("ladder", 5000)
	r.Ladder = &loadtest.Ladder{Of: "clients"}
	for _, n := range names {
		for _, v := range []int64{1, 10, 100, 1000, 5000} {
			h := habits[n]
			h.wait *= .2 + math.Pow(float64(v)/100, .7)
			h.rss *= .3 + math.Pow(float64(v)/500, .4)
			if n == "distribution" {
				h.amplification = float64(v) * .98
			}
			r.Ladder.Steps = append(r.Ladder.Steps, loadtest.Step{Value: v, Contender: n, Measurement: s.measurement(int(v), h)})
		}
	}
	return r
}

// samples are the reports that people meet. They are shared: a test that changes
// one clones what it changes.
var samples = sync.OnceValue(func() map[string]loadtest.Report {
	s := newSample(1)
	one := s.comparison(1, 100, "registryd")
	one.Contenders[0].Rounds[0].Failures = nil
	errs := s.report("upstream-limit", 400, s.contender("registryd", 3, 400, habit{3, .5, 1.02, 1.3, 90 << 20, .31, map[string]float64{"disk": .2, "fill": .7, "upstream": .1}}))
	errs.Contenders[0].Rounds[1].HeldBack = "it ran out of CPU for 4.1 s, and pulls left up to 0.9 s late"
	early := s.report("cold-herd", 100, s.contender("registryd", 1, 3, habits["registryd"]))
	early.Ended = "interrupted"
	warm := s.report("warm-burst", 1000, s.contender("registryd", 5, 1000, habit{.08, .6, 0, .5, 60 << 20, 0, map[string]float64{"disk": 1}}), s.contender("nginx", 5, 1000, habit{.06, .5, 0, .4, 20 << 20, 0, nil}))
	warm.Contenders[0].Rounds[2].Cold = "pulled 6 times, its images still cost the upstream 4.0 of 4.0 MiB; is the disk full, or the cache too small?"
	six := s.report("mixed-day", 1000)
	for i := range 6 {
		c := s.contender(fmt.Sprintf("build-%d", i+1), 3, 1000, habit{2 + float64(i), .3, 1 + float64(i)/3, 1, 90 << 20, .001, map[string]float64{"disk": .9 - .1*float64(i), "fill": .1 + .1*float64(i)}})
		six.Contenders = append(six.Contenders, c)
	}
	nothing := s.report("cold-herd", 100, loadtest.Contender{Name: "registryd"})
	nothing.Ended = "the target cannot be reached: connection refused"
	return map[string]loadtest.Report{
		"warm":        warm,
		"six":         six,
		"nothing":     nothing,
		"one":         one,
		"comparison":  s.comparison(5, 100, "registryd", "distribution", "zot", "nginx"),
		"ladder":      s.ladder("registryd", "distribution"),
		"errors":      errs,
		"interrupted": early,
	}
})

// TestWritePages is for people: go test ./loadtest/report -run TestWritePages -report.write=/tmp/pages
func TestWritePages(t *testing.T) {
	if *writeTo == "" {
		t.Skip("-report.write names no folder")
	}
	for name, r := range samples() {
		f, err := os.Create(filepath.Join(*writeTo, name+".html"))
		if err != nil {
			t.Fatal(err)
		}
		if err := WriteHTML(f, r); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
