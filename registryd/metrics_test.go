package registryd

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
)

// scrape returns the text that Prometheus would get.
func (m *Metrics) scrape() string {
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	return rec.Body.String()
}

func TestMetricsHaveTheContractsNames(t *testing.T) {
	m := NewMetrics(func() CacheStats { return CacheStats{Bytes: 11, Budget: 22, Evicted: 33} })
	m.ObserveUpstream("docker.io", "manifest", 200)
	m.ObserveUpstream("docker.io", "blob", 0)
	m.ObserveUpstream("docker.io", "blob", 999)
	m.AddUpstreamBytes("docker.io", 1<<20)
	m.ObserveStore("get", 404)
	m.ObserveFill("store", "ok")
	h := newTester(t, HandlerOptions{Metrics: m})
	body := pattern(70_000)
	d, _ := h.file(body)
	h.manifest("a/b", "t", "12345")
	broken := h.fill(&fillHold{body: pattern(90_000), size: 90_000, until: 80_000, err: errors.New("cut")})
	h.get(blobPath(d))
	h.get(blobPath(d), "Range: bytes=0-9")
	h.get("/v2/a/b/manifests/t")
	h.do("HEAD", "/v2/a/b/manifests/t")
	h.get("/v2/a/b/manifests/other")
	h.get("/v2/a/../manifests/other")
	h.do("BREW", "/v2/")
	h.get(blobPath(broken))
	h.client.CloseIdleConnections()
	h.settled(0, 0) // all are counted

	text := m.scrape()
	for _, want := range []string{
		`registryd_served_bytes_total{source="disk"} 70015`,
		`registryd_served_bytes_total{source="store"} 0`,
		`registryd_served_bytes_total{source="upstream"} 0`,
		`registryd_requests_total{code="200",route="blob"} 2`,
		`registryd_requests_total{code="206",route="blob"} 1`,
		`registryd_requests_total{code="200",route="manifest"} 2`,
		`registryd_requests_total{code="404",route="manifest"} 1`,
		`registryd_requests_total{code="400",route="manifest"} 1`,
		`registryd_requests_total{code="405",route="base"} 1`,
		`registryd_upstream_requests_total{code="200",kind="manifest",upstream="docker.io"} 1`,
		`registryd_upstream_requests_total{code="0",kind="blob",upstream="docker.io"} 1`,
		`registryd_upstream_requests_total{code="other",kind="blob",upstream="docker.io"} 1`,
		`registryd_upstream_bytes_total{upstream="docker.io"} 1.048576e+06`,
		`registryd_store_requests_total{code="404",op="get"} 1`,
		`registryd_fills_total{result="ok",source="store"} 1`,
		`registryd_cache_bytes 11`,
		`registryd_cache_budget_bytes 22`,
		`registryd_evicted_bytes_total 33`,
		`registryd_first_byte_seconds_count{source="disk"} 3`,
		`registryd_first_byte_seconds_count{source="fill"} 1`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("missing: %s", want)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "registryd_") && !strings.Contains(line, "_bucket") {
				t.Log(line)
			}
		}
	}
}

func TestCountingARequestCostsNothing(t *testing.T) {
	m := NewMetrics(nil)
	w := response{status: 200, source: SourceDisk, sent: 5, first: 1}
	m.finished(&w, routeBlob)
	if n := testing.AllocsPerRun(100, func() { m.finished(&w, routeBlob) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestClientsCannotMakeLabels(t *testing.T) {
	m := NewMetrics(nil)
	h := newTester(t, HandlerOptions{Metrics: m})
	before := strings.Count(m.scrape(), "\n")
	for path := range hostilePaths {
		rawGet(h.base, path)
	}
	if n := strings.Count(m.scrape(), "\n") - before; n > 40 {
		t.Errorf("%d new lines:\n%s", n, m.scrape())
	}
}
