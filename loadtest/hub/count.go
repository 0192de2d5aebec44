package hub

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hostlocal/loadtest/line"
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
	socket line.Counts

	mu       sync.Mutex // guards what follows
	remember int        // how many requests may be kept one by one
	requests []*Request
	kinds    map[Kind]int
	refused  int // answers that said 429 or 503
	gets     map[manifest.Digest]int
	sent     map[manifest.Digest]*atomic.Int64
	now, max int           // requests in flight
	changed  chan struct{} // closed at the next change; nil unless somebody waits for it
}

func (c *counters) init(remember int) {
	c.remember = remember
	c.kinds, c.gets, c.sent = map[Kind]int{}, map[manifest.Digest]int{}, map[manifest.Digest]*atomic.Int64{}
}

// begin logs a request and returns the function that logs its end.
func (c *counters) begin(q *Request) (end func(status int)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.requests) < c.remember {
		q.Header = q.Header.Clone() // its server uses it again
		c.requests = append(c.requests, q)
	}
	c.kinds[q.Kind]++
	if !q.Digest.IsZero() && (q.Kind == GetBlob || q.Kind == GetManifest) {
		c.gets[q.Digest]++
	}
	c.now++
	c.max = max(c.max, c.now)
	c.change()
	return func(status int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		q.Status = status
		if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
			c.refused++
		}
		c.now--
		c.change()
	}
}

// change wakes those who wait; it is called with mu held.
func (c *counters) change() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// counter returns what counts the bytes sent of d; nil if d is zero.
func (c *counters) counter(d manifest.Digest) *atomic.Int64 {
	if d.IsZero() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.sent[d]
	if n == nil {
		n = new(atomic.Int64)
		c.sent[d] = n
	}
	return n
}

// Counts is what a hub was asked and what it sent, its CDN and token server
// included, since its start or Forget.
type Counts struct {
	Requests    map[Kind]int
	Sent        int64                     // bytes of content: see Hub.Sent
	Wire        int64                     // bytes written to sockets: headers, framing and TLS records included
	Fetched     map[manifest.Digest]int64 // bytes of content sent, by digest
	Refused     int                       // answers that said 429 or 503
	Connections int                       // accepted
	MaxInFlight int                       // requests at once
}

// Counts returns all counts at once.
func (h *Hub) Counts() Counts {
	c := &h.log
	c.mu.Lock()
	defer c.mu.Unlock()
	out := Counts{Requests: maps.Clone(c.kinds), Wire: c.socket.Wire.Load(), Fetched: map[manifest.Digest]int64{},
		Refused: c.refused, Connections: int(c.socket.Accepted.Load()), MaxInFlight: c.max}
	for d, counter := range c.sent {
		if n := counter.Load(); n > 0 {
			out.Fetched[d] = n
			out.Sent += n
		}
	}
	return out
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
	if n := h.log.sent[d]; n != nil {
		return n.Load()
	}
	return 0
}

// SentAll returns the sum of Sent over all digests.
func (h *Hub) SentAll() int64 {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	var n int64
	for _, k := range h.log.sent {
		n += k.Load()
	}
	return n
}

// Wire returns how many bytes went out through the sockets: headers, framing and
// TLS records included.
func (h *Hub) Wire() int64 { return h.log.socket.Wire.Load() }

// Connections returns how many connections were accepted since Forget.
func (h *Hub) Connections() int { return int(h.log.socket.Accepted.Load()) }

// OpenConnections returns how many connections are open now.
func (h *Hub) OpenConnections() int { return int(h.log.socket.Open.Load()) }

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
	for _, n := range h.log.sent {
		n.Store(0) // kept: bodies under way go on counting
	}
	h.log.refused = 0
	h.log.max = h.log.now
	h.log.socket.Wire.Store(0)
	h.log.socket.Accepted.Store(0)
}

// Wait blocks until n requests that m matches have arrived, of those that Remember
// keeps, or returns ctx's error. It is the gate to use instead of a sleep.
func (h *Hub) Wait(ctx context.Context, m Matcher, n int) error {
	return h.log.until(ctx, func() bool {
		got := 0
		for _, q := range h.log.requests {
			if m == nil || m(q) {
				got++
			}
		}
		return got >= n
	})
}

// WaitIdle blocks until no request is being answered, or returns ctx's error: what
// counts is final then.
func (h *Hub) WaitIdle(ctx context.Context) error {
	return h.log.until(ctx, func() bool { return h.log.now == 0 })
}

// until waits for cond, which is called with mu held.
func (c *counters) until(ctx context.Context, cond func() bool) error {
	for {
		c.mu.Lock()
		ok := cond()
		if !ok && c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed := c.changed
		c.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// describe reads a request.
func describe(r *http.Request) *Request {
	q := &Request{Kind: Other, Method: r.Method, Host: r.Host, Path: r.URL.Path, Query: r.URL.RawQuery,
		Proto: r.Proto, Header: r.Header, At: time.Now()}
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
