package loadtest

import (
	"net/url"
	"slices"
	"strconv"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// A result is one exchange, as the client saw it.
type result struct {
	kind    string
	method  string
	url     *url.URL
	code    int // 0 where no answer came
	began   time.Time
	latency time.Duration // until the body's end
	in, out int64         // bytes of bodies
	source  string        // X-Registryd-Source, where a body was read
	err     error
}

// queued is how many results may wait for the recorder. It is some milliseconds of
// the fastest load; when it is full, clients wait, and the tool holds itself back.
const queued = 4096

// A recorder takes the results of all clients, in one goroutine, so that sums need
// no lock and the file of results is written by nobody who is being timed.
type recorder struct {
	results chan result
	pulls   chan Pull
	ask     chan chan<- Progress
	done    chan struct{} // closed when all is summed up

	// The recorder's own until done.
	name     string
	encode   vegeta.Encoder
	lost     error // of encode, which is then left alone
	seq      uint64
	totals   map[string]*totals
	sources  map[string]int64
	waits    vegeta.LatencyMetrics // of pulls that went well, for the progress
	ended    int
	failed   int
	failures map[string]*Failures
}

type totals struct {
	RequestTotals
	latency vegeta.LatencyMetrics
}

func newRecorder(name string, encode vegeta.Encoder) *recorder {
	r := &recorder{
		results: make(chan result, queued), pulls: make(chan Pull), ask: make(chan chan<- Progress), done: make(chan struct{}),
		name: name, encode: encode,
		totals: map[string]*totals{}, sources: map[string]int64{}, failures: map[string]*Failures{},
	}
	go r.loop()
	return r
}

// loop ends when results is closed, which is after the last pull.
func (r *recorder) loop() {
	defer close(r.done)
	for {
		select {
		case x, ok := <-r.results:
			if !ok {
				return
			}
			r.result(x)
		case p := <-r.pulls:
			r.pull(p)
		case to := <-r.ask:
			p := Progress{Done: r.ended, Failed: r.failed}
			if r.waits.Max > 0 {
				p.P50, p.P99 = r.waits.Quantile(0.5), r.waits.Quantile(0.99)
			}
			to <- p
		}
	}
}

func (r *recorder) result(x result) {
	t := r.totals[x.kind]
	if t == nil {
		t = &totals{RequestTotals: RequestTotals{Codes: map[string]int{}}}
		r.totals[x.kind] = t
	}
	t.Count++
	t.Codes[strconv.Itoa(x.code)]++
	t.Bytes += x.in
	t.latency.Add(x.latency)
	if x.in > 0 && x.kind != "token" {
		r.sources[x.source] += x.in
	}
	if r.encode == nil || r.lost != nil {
		return
	}
	v := vegeta.Result{
		Attack: r.name, Seq: r.seq, Code: uint16(x.code), Timestamp: x.began, Latency: x.latency,
		BytesIn: uint64(x.in), BytesOut: uint64(x.out), Method: x.method, URL: x.url.String(),
	}
	r.seq++
	if x.err != nil {
		v.Error = x.err.Error()
	}
	r.lost = r.encode(&v)
}

func (r *recorder) pull(p Pull) {
	r.ended++
	switch {
	case p.Failure != "":
		r.failed++
	case !p.Left:
		r.waits.Add(p.Wait())
	}
}

// maxExamples bounds what is kept of failures of one kind.
const maxExamples = 3

// fail counts a failure. It is called after done.
func (r *recorder) fail(kind, example string) {
	f := r.failures[kind]
	if f == nil {
		f = &Failures{Kind: kind}
		r.failures[kind] = f
	}
	f.Count++
	if len(f.Examples) < maxExamples {
		f.Examples = append(f.Examples, example)
	}
}

// into puts the sums into m, after done.
func (r *recorder) into(m *Measurement) {
	m.Requests = map[string]RequestTotals{}
	for kind, t := range r.totals {
		l := &t.latency
		t.Latency = Quantiles{
			Count: t.Count, Mean: l.Total / time.Duration(t.Count), Max: l.Max,
			P50: l.Quantile(0.5), P90: l.Quantile(0.9), P99: l.Quantile(0.99), P999: l.Quantile(0.999),
		}
		m.Requests[kind] = t.RequestTotals
	}
	m.Sources = r.sources
	for _, f := range r.failures {
		m.Failures = append(m.Failures, *f)
	}
	slices.SortFunc(m.Failures, func(a, b Failures) int { return b.Count - a.Count })
}
