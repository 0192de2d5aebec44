package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"hostlocal/loadtest/line"
	"hostlocal/manifest"
)

// An exchange is one request on its way to its answer.
type exchange struct {
	hub    *Hub
	w      http.ResponseWriter
	r      *http.Request
	q      *Request
	plan   *plan
	healed <-chan struct{}
	ctx    context.Context // ends with the client or the hub
	status int
}

// handle logs a request, lets the faults that come before an answer happen, and
// has answer answer the rest.
func (h *Hub) handle(w http.ResponseWriter, r *http.Request, q *Request, answer func(*exchange)) {
	h.inflight.Add(1)
	defer h.inflight.Done()
	end := h.log.begin(q)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(h.ctx, cancel)()
	x := &exchange{hub: h, w: w, r: r, q: q, ctx: ctx}
	defer func() { end(x.status) }()
	x.plan, x.healed = h.planFor(q)

	p := x.plan
	if line.Sleep(ctx, p.latency) != nil {
		x.abort()
	}
	order, err := h.line.Arrive(ctx)
	if err != nil {
		x.abort()
	}
	if p.cutAfter < 0 {
		p.cutAfter = order.Cut
	}
	if p.stall {
		x.park()
	}
	if p.gate != nil && p.stallAfter < 0 {
		x.park()
	}
	if p.drop {
		x.abort()
	}
	switch {
	case order.Status != 0:
		x.fail(order.Status, http.StatusText(order.Status))
	case p.status == http.StatusUnauthorized:
		x.challenge("")
	case p.status != 0:
		x.fail(p.status, http.StatusText(p.status))
	case p.redirectTo != "":
		x.redirect(p.redirectTo)
	case p.page && r.Method != http.MethodHead:
		page := Literal([]byte("<!DOCTYPE html><html><body><h1>Please log in to the guest network</h1></body></html>\n"))
		x.send(page, "text/html; charset=utf-8", manifest.Digest{})
	default:
		answer(x)
	}
}

// park waits at the gate if there is one, else until Heal.
func (x *exchange) park() {
	open := x.healed
	if x.plan.gate != nil {
		open = x.plan.gate.open
	}
	select {
	case <-open:
	case <-x.healed:
	case <-x.ctx.Done():
		x.abort()
	}
}

// abort closes the connection as it is.
func (x *exchange) abort() { panic(http.ErrAbortHandler) }

func (h *Hub) serveRegistry(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == tokenPath {
		h.serveToken(w, r)
		return
	}
	h.handle(w, r, describe(r), func(x *exchange) {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		if !x.authorized() {
			return
		}
		h.mu.Lock()
		repo := h.repos[x.q.Repo]
		forbidden := repo != nil && repo.forbidden
		h.mu.Unlock()
		switch {
		case x.q.Kind == Ping:
			x.start(http.StatusOK)
		case forbidden:
			x.fail(http.StatusForbidden, "DENIED")
		case repo == nil:
			x.fail(http.StatusNotFound, "NAME_UNKNOWN")
		case x.q.Kind == Tags:
			x.tags(repo)
		case x.q.Kind == HeadManifest || x.q.Kind == GetManifest:
			if x.withinLimit() {
				x.manifest(repo)
			}
		case x.q.Kind == HeadBlob || x.q.Kind == GetBlob:
			x.blob(repo)
		default:
			x.fail(http.StatusNotFound, "UNSUPPORTED")
		}
	})
}

func (x *exchange) manifest(repo *repository) {
	x.hub.mu.Lock()
	d := x.q.Digest
	if d.IsZero() {
		d = repo.tags[x.q.Ref]
	}
	m, ok := repo.manifests[d]
	if ok && x.plan.negotiate && !x.accepts(m.mediaType) {
		d, m, ok = x.insteadOf(repo, m)
	}
	x.hub.mu.Unlock()
	if !ok {
		x.fail(http.StatusNotFound, "MANIFEST_UNKNOWN")
		return
	}
	x.send(Content{Digest: d, Size: int64(len(m.body)), bytes: m.body}, m.mediaType, d)
}

func (x *exchange) accepts(mediaType string) bool {
	all := strings.Join(x.r.Header.Values("Accept"), ",")
	for a := range strings.SplitSeq(all, ",") {
		a, _, _ = strings.Cut(a, ";")
		if a = strings.TrimSpace(a); a == mediaType || a == "*/*" {
			return true
		}
	}
	return false
}

// insteadOf returns what a registry that negotiates serves in place of m.
func (x *exchange) insteadOf(repo *repository, m stored) (manifest.Digest, stored, bool) {
	var index struct{ Manifests []descriptor }
	json.Unmarshal(m.body, &index)
	if len(index.Manifests) == 0 {
		return manifest.Digest{}, stored{}, false
	}
	d := index.Manifests[0].Digest
	m, ok := repo.manifests[d]
	return d, m, ok && x.accepts(m.mediaType)
}

func (x *exchange) blob(repo *repository) {
	x.hub.mu.Lock()
	c, ok := repo.blobs[x.q.Digest]
	redirect := x.plan.redirect || x.hub.toCDN
	x.hub.mu.Unlock()
	switch {
	case !ok:
		x.fail(http.StatusNotFound, "BLOB_UNKNOWN")
	case redirect && x.r.Method != http.MethodHead:
		x.redirect(x.hub.link(x.q.Digest))
	default:
		x.send(c, "application/octet-stream", c.Digest)
	}
}

// tags answers a page of tags/list, with a Link to the next one.
func (x *exchange) tags(repo *repository) {
	x.hub.mu.Lock()
	tags := make([]string, 0, len(repo.tags))
	for t := range repo.tags {
		tags = append(tags, t)
	}
	x.hub.mu.Unlock()
	slices.Sort(tags)
	v := x.r.URL.Query()
	if last := v.Get("last"); last != "" {
		i, found := slices.BinarySearch(tags, last)
		if found {
			i++
		}
		tags = tags[i:]
	}
	if n, err := strconv.Atoi(v.Get("n")); err == nil && n >= 0 && n < len(tags) {
		tags = tags[:n]
		if n > 0 {
			next := url.Values{"n": {strconv.Itoa(n)}, "last": {tags[n-1]}}
			x.w.Header().Set("Link", fmt.Sprintf(`</v2/%s/tags/list?%s>; rel="next"`, x.q.Repo, next.Encode()))
		}
	}
	x.send(Literal(encode(map[string]any{"name": x.q.Repo, "tags": tags})), "application/json", manifest.Digest{})
}

// start sends the status and the headers.
func (x *exchange) start(status int) {
	for k, v := range x.plan.header {
		x.w.Header()[k] = v
	}
	x.status = status
	x.w.WriteHeader(status)
}

// fail answers with an error in OCI form.
func (x *exchange) fail(status int, code string) {
	x.w.Header().Set("Content-Type", "application/json")
	x.start(status)
	if x.r.Method != http.MethodHead {
		fmt.Fprintf(x.w, `{"errors":[{"code":%q,"message":%q}]}`, code, http.StatusText(status))
	}
}

func (x *exchange) redirect(to string) {
	x.w.Header().Set("Location", to)
	x.start(http.StatusTemporaryRedirect)
}
