package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"hostlocal/manifest"
)

// A verdict says what an answer is, if it is not a finding.
type verdict int

const (
	right   verdict = iota
	refused         // 403 or 404, and it may be so
	failed          // an outage, or a broken connection
)

const (
	// tagDeadline is the daemon's deadline for what a tag stands for: so old may the
	// upstream's word be beyond the TTL.
	tagDeadline = 2 * time.Second

	// troubledDeadline is the same while the upstream is in trouble: a confirmation
	// under way may take that long.
	troubledDeadline = 12 * time.Second

	// troubleLasts is for how long after its end a fault may still be seen.
	troubleLasts = 12 * time.Second
)

// judge checks an answer against what the model knows. What must not be is
// reported; the verdict says what else it is.
func (x *operation) judge(q *request, p *reply) verdict {
	w := x.world
	if p.Response == nil {
		return failed
	}
	switch code := p.StatusCode; {
	case code == http.StatusOK, code == http.StatusPartialContent:
		return x.judgeContent(q, p)
	case code >= 500:
		if code == http.StatusInternalServerError {
			w.found("%s: %s %s: 500 is no answer of this daemon: %s", x, q.method, q.path, p)
		}
		return failed
	case code == http.StatusForbidden:
		if !w.truth.forbidden(q.repo, p.begun.Add(-x.tagSlack(p)), p.ended) {
			w.found("%s: %s %s%s: 403, and nobody forbids it: %s", x, q.method, q.repo.name, q.path, p)
		}
		return refused
	case code == http.StatusNotFound:
		return x.judgeMissing(q, p)
	}
	w.found("%s: %s %s%s: %s", x, q.method, q.repo.name, q.path, p)
	return refused
}

// tagSlack is how far back the daemon's knowledge of an upstream may reach.
func (x *operation) tagSlack(p *reply) time.Duration {
	slack := modelTTL + tagDeadline + x.world.noise.late()
	if !x.world.hubHealth.wellSince(p.begun.Add(-troubleLasts)) {
		slack += troubledDeadline
	}
	return slack
}

// judgeMissing checks a 404. To a HEAD by who may push, as everybody here, it may also
// stand for an outage.
func (x *operation) judgeMissing(q *request, p *reply) verdict {
	w, there, what := x.world, false, q.tag
	switch {
	case q.tag != "":
		there = !w.truth.stood(q.repo, q.tag, manifest.Digest{}, p.begun.Add(-x.tagSlack(p)), p.ended)
	case !q.digest.IsZero():
		_, there = w.truth.object(q.repo, q.digest)
		what = q.digest.String()
	}
	if there && q.method == http.MethodHead {
		return failed
	}
	if there {
		w.found("%s: 404 for %s of %s, which was there all the time: %s", x, what, q.repo.name, p)
	}
	return refused
}

// judgeContent checks a success: headers, bytes, and the tag's age.
func (x *operation) judgeContent(q *request, p *reply) verdict {
	w, h := x.world, p.Header
	at := fmt.Sprintf("%s: %s %s%s %s", x, q.method, q.repo.name, q.path, q.header.Get("Range"))
	switch source := h.Get("X-Registryd-Source"); source {
	case "disk", "fill", "store", "upstream":
	default:
		w.found("%s: X-Registryd-Source is %q", at, source)
	}
	if q.path == "/tags/list" {
		return x.judgeTags(q, p)
	}
	said := h.Get("Docker-Content-Digest")
	d, err := manifest.ParseDigest(said)
	if err != nil {
		w.found("%s: Docker-Content-Digest is %q", at, said)
		return failed
	}
	if !q.digest.IsZero() && d != q.digest {
		w.found("%s: answered with %s", at, d)
	}
	o, ok := w.truth.object(q.repo, d)
	if !ok {
		w.found("%s: answered with %s, which the repository never had: %s", at, d, p)
		return failed
	}
	if q.tag != "" {
		x.judgeTag(at, q, p, d)
	}
	if p.broken {
		return failed
	}
	if p.left {
		if p.wrong >= 0 && !w.suspect(p.begun) {
			w.found("%s: wrong at byte %d, and no source was: %s", at, p.wrong, p)
		}
		return right
	}
	x.judgeBody(at, q, p, o)
	return right
}

// judgeBody checks an answer that came to a good end: it is exact.
func (x *operation) judgeBody(at string, q *request, p *reply, o object) {
	w, h := x.world, p.Header
	first, last := int64(0), o.Size-1
	if p.StatusCode == http.StatusPartialContent {
		var ok bool
		if first, last, ok = wantedRange(q.header.Get("Range"), o.Size); !ok {
			w.found("%s: 206 without a range: %s", at, p)
			return
		}
		longer := strings.HasPrefix(h.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/", first, last)) && !strings.HasSuffix(h.Get("Content-Range"), fmt.Sprintf("/%d", o.Size))
		if (last < o.Size-1 || longer) && w.suspect(p.begun) {
			// Only a blob's last byte waits for its digest: what lies before it goes out
			// as the source sends it, and as much of it as the source says there is. Which
			// byte is the last, nobody but the source knows where no manifest is.
			return
		}
		if got, want := h.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", first, last, o.Size); got != want {
			w.found("%s: Content-Range is %q, want %q: %s", at, got, want, p)
		}
	}
	n := last - first + 1
	if o.mediaType != "" && h.Get("Content-Type") != o.mediaType {
		w.found("%s: Content-Type is %q, want %q", at, h.Get("Content-Type"), o.mediaType)
	}
	if q.method == http.MethodHead {
		if got := p.ContentLength; got != n && got >= 0 && w.hubHealth.wellSince(p.begun.Add(-troubleLasts)) && !w.suspect(p.begun) {
			w.found("%s: Content-Length is %d, want %d: %s", at, got, n, p)
		}
		return
	}
	if s := h.Get("Content-Length"); s != "" && s != strconv.FormatInt(n, 10) {
		w.found("%s: Content-Length is %s, want %d: %s", at, s, n, p)
	}
	if p.n != n {
		w.found("%s: ended well with %d bytes, want %d: %s", at, p.n, n, p)
	}
	if p.wrong >= 0 {
		w.found("%s: ended well, and is wrong at byte %d: %s", at, p.wrong, p)
	}
}

// wantedRange is what a Range header asks of size bytes.
func wantedRange(header string, size int64) (first, last int64, ok bool) {
	from, to, ok := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	if header == "" || !ok {
		return 0, 0, false
	}
	first, err := strconv.ParseInt(from, 10, 64)
	last = size - 1
	if from == "" {
		n, _ := strconv.ParseInt(to, 10, 64)
		return max(0, size-n), last, true
	}
	if to != "" {
		last, _ = strconv.ParseInt(to, 10, 64)
	}
	return first, min(last, size-1), err == nil
}

// judgeTag checks the age of what a tag is said to stand for.
func (x *operation) judgeTag(at string, q *request, p *reply, d manifest.Digest) {
	w := x.world
	from := p.begun.Add(-x.tagSlack(p))
	if p.Header.Get("Warning") != "" {
		from = time.Time{}
	}
	if !w.truth.stood(q.repo, q.tag, d, from, p.ended) {
		w.found("%s: %s is said to stand for %s, which it did not within TTL and deadline (now: %s): %s",
			at, q.tag, short(d), short(w.truth.now(q.repo, q.tag)), p)
	}
	if w.hubHealth.wellSince(p.begun.Add(-troubleLasts)) && !w.truth.allowed(q.repo, p.begun.Add(-x.tagSlack(p)), p.ended) {
		w.found("%s: served, and %s has been forbidden for long: %s", at, q.repo.name, p)
	}
}

// judgeTags checks a list of tags. It has no digest: what a faulty upstream made of
// it nobody can know.
func (x *operation) judgeTags(q *request, p *reply) verdict {
	w := x.world
	if p.broken {
		return failed
	}
	if !w.hubHealth.wellSince(p.begun.Add(-troubleLasts)) {
		return right
	}
	var list struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}
	if err := json.Unmarshal(p.body, &list); err != nil || list.Name != q.repo.name {
		w.found("%s: tags of %s: %v in %s", x, q.repo.name, err, p.body)
		return right
	}
	if err := w.truth.listed(q.repo, list.Tags, p.begun, p.ended); err != nil {
		w.found("%s: tags of %s: %v: %s", x, q.repo.name, err, p.body)
	}
	return right
}
