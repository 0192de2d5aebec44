package registryd

import (
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// CacheStats is what the metrics tell of the cache. All are bytes.
type CacheStats struct {
	Bytes   int64 // that count against the budget now
	Budget  int64
	Evicted int64 // since the start
}

// Metrics are the daemon's metrics, in a registry of their own. Its methods are
// the callbacks that the packages below are given; they may be called from any
// number of goroutines.
//
// No label is a client's own word: sources, routes, kinds and operations are the
// program's, upstreams are the configured ones, codes are numbers. What is counted
// on every request has been looked up before, so that counting it is an atomic
// addition.
type Metrics struct {
	registry *prometheus.Registry

	served    [sources]prometheus.Counter
	firstByte [sources]prometheus.Observer
	requests  *prometheus.CounterVec
	byCode    [routes][maxCode]atomic.Pointer[counter] // of requests, once used

	upstreamRequests *prometheus.CounterVec
	upstreamBytes    *prometheus.CounterVec
	storeRequests    *prometheus.CounterVec
	fills            *prometheus.CounterVec
	webhookEvents    *prometheus.CounterVec
}

// A counter is a prometheus.Counter in a form that an atomic.Pointer can hold.
type counter struct{ prometheus.Counter }

// maxCode is above every status.
const maxCode = 600

// The sources as numbers, for what is counted on every request.
const (
	fromDisk = iota
	fromFill
	fromStore
	fromUpstream
	sources
)

var sourceNames = [sources]string{SourceDisk, SourceFill, SourceStore, SourceUpstream}

// firstByteBuckets are in seconds: from a warm manifest (tens of microseconds) to
// the bound of an answer (10 s).
var firstByteBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 5, 10}

// NewMetrics returns the metrics; cache is asked at each scrape and may be nil.
func NewMetrics(cache func() CacheStats) *Metrics {
	if cache == nil {
		cache = func() CacheStats { return CacheStats{} }
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "registryd_" + name, Help: help}, labels)
	}
	m := &Metrics{
		registry:         prometheus.NewRegistry(),
		requests:         counters("requests_total", "Requests answered, by endpoint and status; 499 stands for a client that left.", "route", "code"),
		upstreamRequests: counters("upstream_requests_total", "Requests sent to upstream registries; code 0 stands for no answer.", "upstream", "kind", "code"),
		upstreamBytes:    counters("upstream_bytes_total", "Bytes of bodies received from upstream registries.", "upstream"),
		storeRequests:    counters("store_requests_total", "Requests sent to the bucket; code 0 stands for no answer.", "op", "code"),
		fills:            counters("fills_total", "Fills of the disk that ended, by source and result.", "source", "result"),
		webhookEvents:    counters("webhook_events_total", "What became of events for webhooks, by webhook and result.", "endpoint", "result"),
	}
	served := counters("served_bytes_total", "Bytes of content sent to clients, by where they came from.", "source")
	firstByte := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "registryd_first_byte_seconds", Help: "Time from a request to the first byte of content.", Buckets: firstByteBuckets,
	}, []string{"source"})
	for i, name := range sourceNames {
		m.served[i], m.firstByte[i] = served.WithLabelValues(name), firstByte.WithLabelValues(name)
	}
	gauge := func(name, help string, of func(CacheStats) int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "registryd_" + name, Help: help}, func() float64 { return float64(of(cache())) })
	}
	m.registry.MustRegister(
		m.requests, m.upstreamRequests, m.upstreamBytes, m.storeRequests, m.fills, m.webhookEvents, served, firstByte,
		gauge("cache_bytes", "Bytes on the disk that count against the budget.", func(s CacheStats) int64 { return s.Bytes }),
		gauge("cache_budget_bytes", "The budget of the disk cache in bytes.", func(s CacheStats) int64 { return s.Budget }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "registryd_evicted_bytes_total", Help: "Bytes evicted from the disk cache."},
			func() float64 { return float64(cache().Evicted) }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Handler serves the metrics in the text formats of Prometheus.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// ObserveUpstream counts one request to an upstream, which must be a configured
// name; kind is what was asked for ("manifest", "blob", "token", ...), code the
// status of the answer, 0 if there was none.
func (m *Metrics) ObserveUpstream(upstream, kind string, code int) {
	m.upstreamRequests.WithLabelValues(upstream, kind, codeLabel(code)).Inc()
}

// AddUpstreamBytes counts n bytes of bodies received from an upstream.
func (m *Metrics) AddUpstreamBytes(upstream string, n int64) {
	m.upstreamBytes.WithLabelValues(upstream).Add(float64(n))
}

// ObserveStore counts one request to the bucket; op is the driver's word for it
// ("get", "put", ...), code the status of the answer, 0 if there was none.
func (m *Metrics) ObserveStore(op string, code int) {
	m.storeRequests.WithLabelValues(op, codeLabel(code)).Inc()
}

// ObserveFill counts a fill that ended; source and result are the cache's words.
func (m *Metrics) ObserveFill(source, result string) {
	m.fills.WithLabelValues(source, result).Inc()
}

// ObserveWebhook counts what became of an event; endpoint is a configured name,
// result the notifier's word.
func (m *Metrics) ObserveWebhook(endpoint, result string) {
	m.webhookEvents.WithLabelValues(endpoint, result).Inc()
}

// WatchWebhook has each scrape ask how many events wait for a configured webhook.
// Call it once for each.
func (m *Metrics) WatchWebhook(endpoint string, waiting func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "registryd_webhook_queue", Help: "Events that wait for a webhook to take them.", ConstLabels: prometheus.Labels{"endpoint": endpoint},
	}, func() float64 { return float64(waiting()) }))
}

// finished counts a request that w answered.
func (m *Metrics) finished(w *response, rt route) {
	m.request(rt, w.status)
	i := sourceIndex(w.source)
	if i < 0 || w.sent == 0 {
		return
	}
	m.served[i].Add(float64(w.sent))
	if rt == routeManifest || rt == routeBlob {
		m.firstByte[i].Observe(w.first.Seconds())
	}
}

// request counts one request by route and status.
func (m *Metrics) request(rt route, code int) {
	if code < 0 || code >= maxCode {
		code = 0
	}
	c := m.byCode[rt][code].Load()
	if c == nil {
		c = &counter{m.requests.WithLabelValues(rt.String(), codeLabel(code))}
		m.byCode[rt][code].Store(c) // two that store at once store the same counter
	}
	c.Inc()
}

// sourceIndex is the number of a source's name, -1 for any other word.
func sourceIndex(name string) int {
	for i, s := range sourceNames {
		if s == name {
			return i
		}
	}
	return -1
}

// codeLabel is a status as a label. A peer may send any number from 0 to 999;
// those that mean nothing share a label.
func codeLabel(code int) string {
	if code != 0 && (code < 100 || code >= maxCode) {
		return "other"
	}
	return strconv.Itoa(code)
}
