package hub

import (
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"hostlocal/manifest"
)

// A Matcher picks requests.
type Matcher func(*Request) bool

// All matches every request, tokens and CDN included.
func All() Matcher { return func(*Request) bool { return true } }

// Blob matches GETs of the blob at the registry.
func Blob(d manifest.Digest) Matcher {
	return func(q *Request) bool { return q.Kind == GetBlob && q.Digest == d }
}

// Blobs matches GETs of all blobs at the registry.
func Blobs() Matcher { return Of(GetBlob) }

// CDN matches requests at the CDN for the blob; the zero Digest stands for all.
func CDN(d manifest.Digest) Matcher {
	return func(q *Request) bool { return q.Kind == FromCDN && (d.IsZero() || q.Digest == d) }
}

// Manifests matches HEAD and GET of manifests.
func Manifests() Matcher { return Of(HeadManifest, GetManifest) }

// Manifest matches HEAD and GET of one manifest, by tag or digest as it is asked for.
func Manifest(repo, ref string) Matcher { return And(Repo(repo), Manifests(), Ref(ref)) }

// Ref matches what is asked for by this tag or digest.
func Ref(ref string) Matcher { return func(q *Request) bool { return q.Ref == ref } }

// Repo matches everything in a repository.
func Repo(name string) Matcher { return func(q *Request) bool { return q.Repo == name } }

// Of matches requests of these kinds.
func Of(kinds ...Kind) Matcher {
	return func(q *Request) bool { return slices.Contains(kinds, q.Kind) }
}

// And matches what all match.
func And(ms ...Matcher) Matcher {
	return func(q *Request) bool {
		for _, m := range ms {
			if !m(q) {
				return false
			}
		}
		return true
	}
}

// Not matches what m does not.
func Not(m Matcher) Matcher { return func(q *Request) bool { return !m(q) } }

// A Fault changes the plan by which one request is answered. Several may be
// combined; where two say the same thing the later one wins.
type Fault func(*plan)

// plan is how a request is going to be answered. Offsets count from the first
// byte of the answer's body but for flips, which are offsets in the content.
type plan struct {
	latency     time.Duration
	stall       bool // before the headers
	drop        bool // close without an answer
	status      int  // answer with this and an error body
	header      http.Header
	rate        int64
	stallAfter  int64
	cutAfter    int64
	reset       bool // cut with RST
	flips       []int64
	zeroFrom    int64
	zeroTo      int64
	short, long int64
	endless     bool
	page        bool
	length      int64
	gzip        bool
	chunked     bool
	noRanges    bool
	noDigest    bool
	negotiate   bool
	redirect    bool
	redirectTo  string
	wrongRange  int64
	gate        *Gate
}

func newPlan() *plan {
	return &plan{header: http.Header{}, stallAfter: -1, cutAfter: -1, length: -1}
}

// Injected is a fault at work.
type Injected struct {
	match  Matcher
	faults []Fault
	hits   atomic.Int64
	hub    *Hub
}

// Hits returns how many requests it has met.
func (i *Injected) Hits() int { return int(i.hits.Load()) }

// Remove ends it. What it has stalled stays stalled until Heal or until the client
// leaves.
func (i *Injected) Remove() {
	i.hub.mu.Lock()
	defer i.hub.mu.Unlock()
	i.hub.faults = slices.DeleteFunc(i.hub.faults, func(o *Injected) bool { return o == i })
}

// Fault applies faults to each request that m matches, until Heal or Remove.
func (h *Hub) Fault(m Matcher, faults ...Fault) *Injected {
	i := &Injected{match: m, faults: faults, hub: h}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, i)
	return i
}

// Heal removes all faults, lets what stalls go on, and ends Down and Limit. Forbid,
// tags, authentication, the hub's shape and what Play does stay as they are.
func (h *Hub) Heal() error {
	h.Limit(0)
	h.mu.Lock()
	h.faults = nil
	close(h.healed)
	h.healed = make(chan struct{})
	h.mu.Unlock()
	return h.Up()
}

// planFor collects the faults that meet q, and the channel that ends a stall.
func (h *Hub) planFor(q *Request) (*plan, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := newPlan()
	for _, i := range h.faults {
		if i.match(q) {
			i.hits.Add(1)
			for _, f := range i.faults {
				f(p)
			}
		}
	}
	return p, h.healed
}

// Times applies f to the first n requests that it meets and lets the rest pass.
func Times(n int, f Fault) Fault {
	var met atomic.Int64
	return func(p *plan) {
		if met.Add(1) <= int64(n) {
			f(p)
		}
	}
}

// After lets n requests pass before it applies f.
func After(n int, f Fault) Fault {
	var met atomic.Int64
	return func(p *plan) {
		if met.Add(1) > int64(n) {
			f(p)
		}
	}
}

// Latency delays the answer's headers.
func Latency(d time.Duration) Fault { return func(p *plan) { p.latency = d } }

// Rate bounds what one connection sends, in bytes per second.
func Rate(bytesPerSecond int64) Fault { return func(p *plan) { p.rate = bytesPerSecond } }

// Stall takes the request and says nothing, until Heal.
func Stall() Fault { return func(p *plan) { p.stall = true } }

// StallAfter sends n bytes of the body and then nothing, until Heal.
func StallAfter(n int64) Fault { return func(p *plan) { p.stallAfter = n } }

// Drop closes the connection without an answer.
func Drop() Fault { return func(p *plan) { p.drop = true } }

// CutEvery breaks the connection after n bytes of each body.
func CutEvery(n int64) Fault { return func(p *plan) { p.cutAfter = n } }

// ResetEvery is CutEvery by RST, which also throws away what is under way.
func ResetEvery(n int64) Fault { return func(p *plan) { p.cutAfter, p.reset = n, true } }

// Flip inverts the bytes at these offsets of the content.
func Flip(offsets ...int64) Fault {
	return func(p *plan) { p.flips = append(p.flips, offsets...) }
}

// Zero sends zeros for n bytes from offset off of the content on: a hole.
func Zero(off, n int64) Fault { return func(p *plan) { p.zeroFrom, p.zeroTo = off, off+n } }

// Short leaves out the last n bytes, and says so in Content-Length.
func Short(n int64) Fault { return func(p *plan) { p.short = n } }

// Long sends n bytes too many, and says so in Content-Length.
func Long(n int64) Fault { return func(p *plan) { p.long = n } }

// Endless sends the content and then more without end, chunked.
func Endless() Fault { return func(p *plan) { p.endless = true } }

// ErrorPage answers 200 with a page of HTML.
func ErrorPage() Fault { return func(p *plan) { p.page = true } }

// ContentLength says n whatever the body has: with more than there is the
// connection breaks at the end, with less the body ends early.
func ContentLength(n int64) Fault { return func(p *plan) { p.length = n } }

// Gzip compresses the body, with Content-Encoding, whatever the client accepts.
func Gzip() Fault { return func(p *plan) { p.gzip = true } }

// Chunked sends no Content-Length.
func Chunked() Fault { return func(p *plan) { p.chunked = true } }

// NoRanges ignores Range: 200 and all of it.
func NoRanges() Fault { return func(p *plan) { p.noRanges = true } }

// WrongRange answers a Range with a 206 whose Content-Range begins n bytes later
// than asked, and with the bytes that it names.
func WrongRange(n int64) Fault { return func(p *plan) { p.wrongRange = n } }

// Status answers with an error of this status in OCI form.
func Status(code int) Fault { return func(p *plan) { p.status = code } }

// TooMany answers 429, with Retry-After in seconds unless that is negative.
func TooMany(retryAfter int) Fault {
	return func(p *plan) {
		p.status = http.StatusTooManyRequests
		if retryAfter >= 0 {
			p.header.Set("Retry-After", strconv.Itoa(retryAfter))
		}
	}
}

// Header sets a header of the answer.
func Header(key, value string) Fault { return func(p *plan) { p.header.Set(key, value) } }

// NoHead answers HEAD with 405; let it meet HeadManifest only.
func NoHead() Fault { return Status(http.StatusMethodNotAllowed) }

// NoDigest leaves Docker-Content-Digest out.
func NoDigest() Fault { return func(p *plan) { p.noDigest = true } }

// Negotiate serves manifests by Accept: an index that the client does not accept
// becomes its first platform's manifest, another manifest is 404.
func Negotiate() Fault { return func(p *plan) { p.negotiate = true } }

// ToCDN answers a GET of a blob with a redirect to the hub's CDN, which serves it
// to whoever has the link.
func ToCDN() Fault { return func(p *plan) { p.redirect = true } }

// RedirectTo answers with a redirect to any URL.
func RedirectTo(url string) Fault { return func(p *plan) { p.redirectTo = url } }

// A Gate holds requests until it is opened.
type Gate struct{ open chan struct{} }

// NewGate returns a closed gate; Open must be called once, or Heal.
func NewGate() *Gate { return &Gate{make(chan struct{})} }

// Open lets everybody through.
func (g *Gate) Open() { close(g.open) }

// Hold makes requests wait at g before their headers.
func Hold(g *Gate) Fault { return func(p *plan) { p.gate = g } }

// HoldAfter makes requests wait at g after n bytes of the body.
func HoldAfter(n int64, g *Gate) Fault {
	return func(p *plan) { p.stallAfter, p.gate = n, g }
}
