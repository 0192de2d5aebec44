package report

import (
	"math"
	"slices"
	"strings"
	"time"

	"hostlocal/loadtest"
)

// A column is one quantity of a measurement: what a row of the table shows and what
// an assertion names.
type column struct {
	name  string // in assertions: amplification, p99(pull)
	title string // for people
	group string // heading in the table
	kind  kind
	of    func(*loadtest.Measurement) float64 // NaN where it was not measured
}

const gib = 1 << 30

// columns are all quantities in the order of the table. The shares of sources are
// not among them, because their names come from the contender (sourceColumn).
var columns = slices.Concat(
	[]column{
		{"wall", "until the last client is done", "How long clients waited", seconds, func(m *loadtest.Measurement) float64 { return positive(m.Wall.Seconds()) }},
	},
	quantileColumns("pull", "How long clients waited", func(m *loadtest.Measurement) loadtest.Quantiles { return m.Wait }),
	quantileColumns("first_byte", "Until the first byte of the first layer", func(m *loadtest.Measurement) loadtest.Quantiles { return m.FirstByte }),
	[]column{
		{"pulls", "pulls", "Pulls", count, func(m *loadtest.Measurement) float64 { return float64(len(m.Pulls)) }},
		{"left", "hung up, as they were told", "Pulls", count, func(m *loadtest.Measurement) float64 { return positive(float64(leftPulls(m))) }},
		{"failed", "failed pulls", "Pulls", count, func(m *loadtest.Measurement) float64 { return float64(failedPulls(m)) }},
		{"errors", "errors, of pulls and requests", "Pulls", count, func(m *loadtest.Measurement) float64 { return float64(countErrors(m)) }},
		{"requests", "requests of the clients", "Pulls", count, requestsOfClients},
		{"wanted", "wanted, each digest once", "Bytes", byteCount, func(m *loadtest.Measurement) float64 { return float64(m.Wanted) }},
		{"received", "received by clients", "Bytes", byteCount, func(m *loadtest.Measurement) float64 { return float64(m.Received) }},
		{"verified", "of those, hashed", "Bytes", share, func(m *loadtest.Measurement) float64 { return float64(m.Verified) / float64(m.Received) }},
		{"throughput", "received per second", "Bytes", rate, func(m *loadtest.Measurement) float64 { return float64(m.Received) / m.Wall.Seconds() }},
		{"upstream_bytes", "sent by the upstream", "Bytes", byteCount, func(m *loadtest.Measurement) float64 { return counted(m.Upstream, m.Upstream.Sent) }},
		{"amplification", "upstream bytes for each byte wanted", "Bytes", number, func(m *loadtest.Measurement) float64 { return m.Amplification() }},
		{"upstream_requests", "to the upstream", "Requests behind it", count, func(m *loadtest.Measurement) float64 { return total(m.Upstream.Requests) }},
		{"upstream_refused", "refused by the upstream, as told", "Requests behind it", count, func(m *loadtest.Measurement) float64 { return refusals(m.Upstream) }},
		{"bucket_requests", "to the bucket", "Requests behind it", count, func(m *loadtest.Measurement) float64 { return total(m.Bucket.Requests) }},
		{"bucket_sent", "bytes sent by the bucket", "Requests behind it", byteCount, func(m *loadtest.Measurement) float64 { return counted(m.Bucket, m.Bucket.Sent) }},
		{"bucket_received", "bytes put into the bucket", "Requests behind it", byteCount, func(m *loadtest.Measurement) float64 { return counted(m.Bucket, m.Bucket.Received) }},
		{"cpu", "CPU time", "What it cost", seconds, cpuSeconds},
		{"cpu_per_gib", "CPU-s per GiB received", "What it cost", number, func(m *loadtest.Measurement) float64 { return cpuSeconds(m) / (float64(m.Received) / gib) }},
		{"rss_peak", "memory (RSS), peak", "What it cost", byteCount, peak(func(u loadtest.Usage) float64 { return float64(u.RSS) })},
		{"goroutines_peak", "goroutines, peak", "What it cost", count, peak(func(u loadtest.Usage) float64 { return float64(u.Goroutines) })},
		{"threads_peak", "threads, peak", "What it cost", count, peak(func(u loadtest.Usage) float64 { return float64(u.Threads) })},
		{"descriptors_peak", "descriptors, peak", "What it cost", count, peak(func(u loadtest.Usage) float64 { return float64(u.Descriptors) })},
		{"disk_peak", "disk, peak", "What it cost", byteCount, peak(func(u loadtest.Usage) float64 { return float64(u.Disk) })},
	},
)

// quantileNames are the functions of an assertion, in the order of the table.
var quantileNames = []string{"p50", "p90", "p99", "p999", "max", "mean"}

// quantileColumns are the columns p50(of), p90(of), ...
func quantileColumns(of, group string, pick func(*loadtest.Measurement) loadtest.Quantiles) []column {
	titles := map[string]string{"p50": "p50", "p90": "p90", "p99": "p99", "p999": "p99.9", "max": "slowest", "mean": "mean"}
	var cols []column
	for _, name := range quantileNames {
		cols = append(cols, column{name + "(" + of + ")", titles[name], group, seconds, func(m *loadtest.Measurement) float64 {
			q := pick(m)
			if q.Count == 0 {
				return math.NaN()
			}
			return quantile(q, name).Seconds()
		}})
	}
	return cols
}

func quantile(q loadtest.Quantiles, name string) time.Duration {
	switch name {
	case "p50":
		return q.P50
	case "p90":
		return q.P90
	case "p99":
		return q.P99
	case "p999":
		return q.P999
	case "max":
		return q.Max
	}
	return q.Mean
}

// sourceColumn is the share of the received bytes that one source gave.
func sourceColumn(source string) column {
	return column{"sources." + source, "from " + sourceTitle(source), "Bytes", share, func(m *loadtest.Measurement) float64 {
		if len(m.Sources) == 0 || m.Received <= 0 || onlyUnnamed(m.Sources) {
			return math.NaN()
		}
		got := m.Sources[source]
		if source == noSource {
			got += m.Sources[""]
		}
		return float64(got) / float64(m.Received)
	}}
}

// columnNamed finds a column by what an assertion calls it.
func columnNamed(name string) (column, bool) {
	if source, ok := strings.CutPrefix(name, "sources."); ok && source != "" {
		return sourceColumn(source), true
	}
	i := slices.IndexFunc(columns, func(c column) bool { return c.name == name })
	if i < 0 {
		return column{}, false
	}
	return columns[i], true
}

// mustColumn is for names in this package's own code.
func mustColumn(name string) column {
	c, ok := columnNamed(name)
	if !ok {
		panic("report: no column " + name)
	}
	return c
}

// positive makes what cannot have been measured a NaN.
func positive(v float64) float64 {
	if v <= 0 {
		return math.NaN()
	}
	return v
}

func failedPulls(m *loadtest.Measurement) int {
	n := 0
	for i := range m.Pulls {
		if m.Pulls[i].Failure != "" {
			n++
		}
	}
	return n
}

// leftPulls are those of clients that hang up in the middle because the scenario
// has it so: neither failed nor waits that count.
func leftPulls(m *loadtest.Measurement) int {
	n := 0
	for i := range m.Pulls {
		if m.Pulls[i].Left {
			n++
		}
	}
	return n
}

// countErrors counts what went wrong. A request that failed and was repeated is in
// Failures alone, so that a run without errors is one where nothing was hidden by a
// second try.
func countErrors(m *loadtest.Measurement) int {
	n := 0
	for _, f := range m.Failures {
		n += f.Count
	}
	return max(n, failedPulls(m))
}

func requestsOfClients(m *loadtest.Measurement) float64 {
	n := 0
	for _, r := range m.Requests {
		n += r.Count
	}
	return float64(n)
}

// total is NaN where nobody counted: a scenario without a bucket has no bucket
// requests, rather than zero.
func total(requests map[string]int) float64 {
	if requests == nil {
		return math.NaN()
	}
	n := 0
	for _, c := range requests {
		n += c
	}
	return float64(n)
}

// counted is NaN where nobody counted.
func counted(t loadtest.Traffic, n int64) float64 {
	if t.Requests == nil && n == 0 {
		return math.NaN()
	}
	return float64(n)
}

func refusals(t loadtest.Traffic) float64 { return counted(t, int64(t.Refused)) }

func cpuSeconds(m *loadtest.Measurement) float64 { return positive(m.CPU.Seconds()) }

// peak is the greatest of the samples; zero means that nothing could be sampled.
func peak(of func(loadtest.Usage) float64) func(*loadtest.Measurement) float64 {
	return func(m *loadtest.Measurement) float64 {
		most := 0.0
		for _, u := range m.Usage {
			most = max(most, of(u))
		}
		return positive(most)
	}
}
