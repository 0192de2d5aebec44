package registryd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"
)

// An operator is what the admin API needs of a Registry.
type operator interface {
	Status() Status
	Explain(ctx context.Context, name string) (Explanation, error)
	Refresh(ctx context.Context, image string) (Refreshed, error)
	Evict(ctx context.Context, image string) (Evicted, error)
}

var _ operator = (*Registry)(nil)

// AdminOptions says what the admin API shows beside the registry's own state.
type AdminOptions struct {
	Metrics *Metrics   // nil: /metrics is not there
	Names   []string   // further names of this host, beside its addresses and host name
	Cache   func() any // the cache's part of the status, to be JSON; nil: none
	Sources func() any // what the clients of the bucket and the upstreams know, to be JSON; nil: none
	// Webhooks is how those stand who are told of events, to be JSON; nil: there are
	// none.
	Webhooks func() any
	Trouble  func() []string // what else /readyz should name, one line each; nil: nothing
	Version  string
}

// An admin answers people, schedulers and Prometheus.
type admin struct {
	registry operator
	options  AdminOptions
	started  time.Time
}

// NewAdmin returns the handler of the admin listener: health, metrics, profiles,
// and the API of the command line and the status page.
func NewAdmin(g *Registry, o AdminOptions) http.Handler { return newAdmin(g, o) }

func newAdmin(g operator, o AdminOptions) http.Handler {
	a := &admin{registry: g, options: o, started: time.Now()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", a.ready)
	mux.HandleFunc("GET /api/v1/status", a.status)
	mux.HandleFunc("GET /api/v1/resolve", a.resolve)
	mux.HandleFunc("POST /api/v1/refresh", forImage(a.registry.Refresh))
	mux.HandleFunc("POST /api/v1/evict", forImage(a.registry.Evict))
	if o.Metrics != nil {
		mux.Handle("GET /metrics", o.Metrics.Handler())
	}
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return newHostGuard(mux, o.Names)
}

// Readiness is the body of /readyz. The status is 200 as long as anybody is there
// to give it: with an upstream or the bucket down this host serves what it has,
// and whoever took it out of service for that would make it worse.
type Readiness struct {
	Ready   bool     `json:"ready"`
	Trouble []string `json:"trouble"` // one line each; never null
}

func (a *admin) ready(w http.ResponseWriter, _ *http.Request) {
	s := a.registry.Status()
	r := Readiness{Ready: true, Trouble: []string{}}
	if s.Store.Failures > 0 {
		r.Trouble = append(r.Trouble, since("store: "+s.Store.Trouble, s.Store.Since))
	}
	for _, u := range s.Upstreams {
		if u.Trouble != "" {
			r.Trouble = append(r.Trouble, since("upstream "+u.Name+": "+u.Trouble, u.Since))
		}
	}
	if s.WriteBack.Trouble != "" {
		r.Trouble = append(r.Trouble, fmt.Sprintf("write-back: %s (%d pending)", s.WriteBack.Trouble, s.WriteBack.Pending))
	}
	if a.options.Trouble != nil {
		r.Trouble = append(r.Trouble, a.options.Trouble()...)
	}
	reply(w, http.StatusOK, r)
}

// since adds to a line how long it has been true.
func since(line string, t time.Time) string {
	if t.IsZero() {
		return line
	}
	return line + " (since " + t.UTC().Format(time.RFC3339) + ")"
}

// Overview is the body of /api/v1/status.
type Overview struct {
	Version  string    `json:"version,omitempty"`
	Started  time.Time `json:"started"`
	Cache    any       `json:"cache,omitempty"`
	Sources  any       `json:"sources,omitempty"`
	Webhooks any       `json:"webhooks,omitempty"`
	Status
}

func (a *admin) status(w http.ResponseWriter, _ *http.Request) {
	o := Overview{Version: a.options.Version, Started: a.started.UTC(), Status: a.registry.Status()}
	if a.options.Cache != nil {
		o.Cache = a.options.Cache()
	}
	if a.options.Sources != nil {
		o.Sources = a.options.Sources()
	}
	if a.options.Webhooks != nil {
		o.Webhooks = a.options.Webhooks()
	}
	reply(w, http.StatusOK, o)
}

func (a *admin) resolve(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("name")
	if name == "" {
		refuse(w, http.StatusBadRequest, "which name? Ask for /api/v1/resolve?name=IMAGE")
		return
	}
	answer(w, r, name, a.registry.Explain)
}

const (
	// maxAdminBody bounds a request's body in bytes; a reference has at most
	// some hundred.
	maxAdminBody = 64 << 10
	// adminBodyLimit is how long a body may take to arrive.
	adminBodyLimit = 5 * time.Second
)

// forImage is the handler of a POST whose body is {"image": "REF"}.
func forImage[T any](do func(context.Context, string) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn := http.NewResponseController(w)
		conn.SetReadDeadline(time.Now().Add(adminBodyLimit)) // fails on a dead connection only
		var in struct {
			Image string `json:"image"`
		}
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAdminBody))
		d.DisallowUnknownFields()
		err := d.Decode(&in)
		conn.SetReadDeadline(time.Time{}) // it would end the request's context
		if err != nil || in.Image == "" {
			refuse(w, http.StatusBadRequest, `which image? Send {"image": "docker.io/library/debian:12"}`)
			return
		}
		answer(w, r, in.Image, do)
	}
}

// answer sends what do says of name, or its error.
func answer[T any](w http.ResponseWriter, r *http.Request, name string, do func(context.Context, string) (T, error)) {
	v, err := do(r.Context(), name)
	if err != nil {
		status, e := answerTo(err, routeManifest)
		refuse(w, status, e.Message)
		return
	}
	reply(w, http.StatusOK, v)
}

// refuse answers with {"error": message}.
func refuse(w http.ResponseWriter, status int, message string) {
	reply(w, status, struct {
		Error string `json:"error"`
	}{message})
}

func reply(w http.ResponseWriter, status int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error": "the answer has no form in JSON"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(append(body, '\n')) // a client that does not take it has left
}
