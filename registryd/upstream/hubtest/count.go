package hubtest

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hostlocal/manifest"
)

// A Kind is what a request asked for.
type Kind string

// The kinds of requests.
const (
	Ping         Kind = "ping"
	HeadManifest Kind = "head manifest"
	GetManifest  Kind = "get manifest"
	HeadBlob     Kind = "head blob"
	GetBlob      Kind = "get blob" // at the registry, answered with bytes or with a redirect
	FromCDN      Kind = "cdn"      // at the CDN
	Tags         Kind = "tags"
	Token        Kind = "token"
	Other        Kind = "other"
)

// A Request is what one request said, and how it was answered.
type Request struct {
	Kind   Kind
	Method string
	Host   string // as in the Host header
	Path   string
	Query  string
	Proto  string
	Repo   string
	Ref    string          // tag or digest of a manifest
	Digest manifest.Digest // of a blob, or of a manifest asked for by digest
	Header http.Header
	At     time.Time
	Status int // 0 if the connection was broken before a status
}

// counters is what a hub knows of its past.
type counters struct {
	wire, accepted, open atomic.Int64

	mu       sync.Mutex // guards what follows
	requests []*Request // bounded by maxLog
	kinds    map[Kind]int
	gets     map[manifest.Digest]int
	sent     map[manifest.Digest]int64
	now, max int // requests in flight
	changed  chan struct{}
}

// maxLog bounds the requests that are remembered one by one, to about 100 MB in a
// storm of small ones. The counts go on without bound.
const maxLog = 100_000

func (c *counters) init() {
	c.requests, c.kinds, c.gets, c.sent = nil, map[Kind]int{}, map[manifest.Digest]int{}, map[manifest.Digest]int64{}
	c.changed = make(chan struct{})
}

// begin logs a request and returns the function that logs its end.
func (c *counters) begin(q *Request) (end func(status int)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.requests) < maxLog {
		c.requests = append(c.requests, q)
	}
	c.kinds[q.Kind]++
	if !q.Digest.IsZero() && (q.Kind == GetBlob || q.Kind == GetManifest) {
		c.gets[q.Digest]++
	}
	c.now++
	c.max = max(c.max, c.now)
	close(c.changed)
	c.changed = make(chan struct{})
	return func(status int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		q.Status = status
		c.now--
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

func (c *counters) addSent(d manifest.Digest, n int64) {
	c.mu.Lock()
	c.sent[d] += n
	c.mu.Unlock()
}

// Count returns how many requests of these kinds there were.
func (h *Hub) Count(kinds ...Kind) int {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	n := 0
	for _, k := range kinds {
		n += h.log.kinds[k]
	}
	return n
}

// Gets returns how many GETs the registry had for a blob, or for a manifest by its
// digest. What followed at the CDN is not in it.
func (h *Hub) Gets(d manifest.Digest) int {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	return h.log.gets[d]
}

// Sent returns how many bytes of the content d were written to sockets, by the hub
// and its CDN, whichever way it was asked for. Headers and framing do not count,
// bytes that a fault made wrong do.
func (h *Hub) Sent(d manifest.Digest) int64 {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	return h.log.sent[d]
}

// SentAll returns the sum of Sent over all digests.
func (h *Hub) SentAll() int64 {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	var n int64
	for _, k := range h.log.sent {
		n += k
	}
	return n
}

// Wire returns how many bytes went out through the sockets: headers, framing and
// TLS records included.
func (h *Hub) Wire() int64 { return h.log.wire.Load() }

// Connections returns how many connections were accepted since Forget.
func (h *Hub) Connections() int { return int(h.log.accepted.Load()) }

// OpenConnections returns how many connections are open now.
func (h *Hub) OpenConnections() int { return int(h.log.open.Load()) }

// InFlight returns how many requests are being answered now.
func (h *Hub) InFlight() int {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	return h.log.now
}

// MaxInFlight returns the most requests that were being answered at once.
func (h *Hub) MaxInFlight() int {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	return h.log.max
}

// Requests returns the requests that m matches in the order of their arrival, all
// if m is nil.
func (h *Hub) Requests(m Matcher) []Request {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	var out []Request
	for _, q := range h.log.requests {
		if m == nil || m(q) {
			out = append(out, *q)
		}
	}
	return out
}

// Forget sets all counts to zero and empties the log.
func (h *Hub) Forget() {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	h.log.requests = nil
	clear(h.log.kinds)
	clear(h.log.gets)
	clear(h.log.sent)
	h.log.max = h.log.now
	h.log.wire.Store(0)
	h.log.accepted.Store(0)
}

// Wait blocks until n requests that m matches have arrived, and fails the test
// after ten seconds. It is the gate to use instead of a sleep.
func (h *Hub) Wait(m Matcher, n int) {
	h.t.Helper()
	h.until("requests to arrive", func() bool {
		got := 0
		for _, q := range h.log.requests {
			if m == nil || m(q) {
				got++
			}
		}
		return got >= n
	})
}

// WaitIdle blocks until no request is being answered, and fails the test after ten
// seconds: what counts is final then.
func (h *Hub) WaitIdle() {
	h.t.Helper()
	h.until("requests to end", func() bool { return h.log.now == 0 })
}

// until waits for cond, which is called under the log's lock.
func (h *Hub) until(what string, cond func() bool) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.ctx, 10*time.Second)
	defer cancel()
	for {
		h.log.mu.Lock()
		ok, changed := cond(), h.log.changed
		h.log.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			h.t.Fatalf("hubtest: waited in vain for %s", what)
		}
	}
}

// describe reads a request.
func describe(r *http.Request) *Request {
	q := &Request{Kind: Other, Method: r.Method, Host: r.Host, Path: r.URL.Path, Query: r.URL.RawQuery,
		Proto: r.Proto, Header: r.Header.Clone(), At: time.Now()}
	rest, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if !ok {
		return q
	}
	if rest == "" {
		q.Kind = Ping
		return q
	}
	var what, ref string
	q.Repo, what, ref = split(rest)
	head := r.Method == http.MethodHead
	switch {
	case what == "manifests" && head:
		q.Kind, q.Ref = HeadManifest, ref
	case what == "manifests":
		q.Kind, q.Ref = GetManifest, ref
	case what == "blobs" && head:
		q.Kind = HeadBlob
	case what == "blobs":
		q.Kind = GetBlob
	case what == "tags":
		q.Kind = Tags
	}
	q.Digest, _ = manifest.ParseDigest(ref)
	return q
}
