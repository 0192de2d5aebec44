package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

const (
	// answerWithin is how long a client may wait for the headers.
	answerWithin = 10 * time.Second

	// byteWithin is how long a client may wait for the next byte of a body: what
	// stalls is given up within seconds for the next source, or the connection ends.
	byteWithin = 20 * time.Second

	// attempts is how often a client tries, as docker does.
	attempts = 5
)

// errHeldOpen says that a client got nothing for too long.
var errHeldOpen = errors.New("the daemon held the client open")

// A request is one that a client sends, and what a right answer to it has.
type request struct {
	repo   *modelRepo
	method string
	path   string // behind the repository
	header http.Header
	abort  int64 // leave after so many bytes of the body, -1: stay
	slow   bool  // read slowly

	// demanded says which bytes the answer must have if it comes: whose, and whether
	// somebody has to have them.
	tag    string          // asked for
	digest manifest.Digest // asked for, or zero
}

// A reply is what came of a request.
type reply struct {
	*http.Response
	begun  time.Time
	ended  time.Time
	life   int
	err    error // the connection broke, or never was
	got    object
	n      int64 // bytes of body
	wrong  int64 // offset of the first wrong byte of the content, -1 for none
	body   []byte
	broken bool // the body did not come to a good end
	left   bool // the client left
}

// send sends the request and reads the answer, and checks all that holds for any
// answer.
func (x *operation) send(q *request) *reply {
	w, n := x.world, x.node
	p := &reply{life: n.life(), begun: time.Now(), wrong: -1}
	defer func() { p.ended = time.Now(); x.step(q, p) }()
	ctx, cancel := context.WithCancelCause(w.over)
	defer cancel(nil)
	watch := time.AfterFunc(answerWithin+w.noise.late(), func() { cancel(errHeldOpen) })
	defer watch.Stop()
	url := "http://registry/v2/" + q.repo.name + q.path
	if x.containerd {
		url += "?ns=docker.io"
	}
	req, err := http.NewRequestWithContext(ctx, q.method, url, nil)
	if err != nil {
		panic(err)
	}
	for k, v := range q.header {
		req.Header[k] = v
	}
	req.Header.Set("Accept", manifestTypes+", */*")
	p.Response, p.err = n.http.Do(req)
	if p.err != nil {
		if context.Cause(ctx) == errHeldOpen && n.lived(p.life) {
			w.found("%s: no answer to %s %s within %v", x, q.method, url, answerWithin)
		}
		return p
	}
	defer p.Body.Close()
	watch.Reset(byteWithin + w.noise.late())
	x.read(q, p, func() { watch.Reset(byteWithin + w.noise.late()) })
	if context.Cause(ctx) == errHeldOpen && n.lived(p.life) {
		w.found("%s: no byte for %v after byte %d of %s %s", x, byteWithin, p.n, q.method, url)
	}
	return p
}

// read reads the body and compares it as it comes.
func (x *operation) read(q *request, p *reply, alive func()) {
	src := &slowReader{r: p.Body, alive: alive, slow: q.slow, left: q.abort}
	if p.StatusCode >= 300 || q.method == http.MethodHead || q.path == "/tags/list" {
		p.body, p.err = io.ReadAll(io.LimitReader(src, 1<<20))
		p.n, p.broken = int64(len(p.body)), p.err != nil
		return
	}
	d := q.digest
	if d.IsZero() {
		d, _ = manifest.ParseDigest(p.Header.Get("Docker-Content-Digest"))
	}
	o, ok := x.world.truth.object(q.repo, d)
	if !ok {
		p.body, p.err = io.ReadAll(io.LimitReader(src, 1<<20))
		p.n, p.broken = int64(len(p.body)), p.err != nil
		return
	}
	p.got = o
	off := int64(0)
	if p.StatusCode == http.StatusPartialContent {
		var size int64
		var last int64
		fmt.Sscanf(p.Header.Get("Content-Range"), "bytes %d-%d/%d", &off, &last, &size)
	}
	p.wrong, p.n, p.err = o.FirstWrong(off, src)
	p.left = errors.Is(p.err, errLeft)
	p.broken = p.err != nil && !p.left
}

// errLeft ends a body that the client does not read further.
var errLeft = errors.New("the client leaves")

// A slowReader reads as slowly as some clients do, and leaves as early.
type slowReader struct {
	r     io.Reader
	alive func()
	slow  bool
	left  int64 // bytes until it leaves, -1: never
}

func (s *slowReader) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, errLeft
	}
	if s.left > 0 {
		p = p[:min(int64(len(p)), s.left)]
	}
	if s.slow {
		time.Sleep(10 * time.Millisecond) // the pace of a slow client, not a wait for anything
	}
	n, err := s.r.Read(p)
	if n > 0 {
		s.alive()
	}
	if s.left > 0 {
		s.left -= int64(n)
	}
	return n, err
}

// get sends the request until its answer is right, as often as a client would
// try, and reports whether it was. That it is not must have a reason.
func (x *operation) get(q *request) (*reply, bool) {
	w := x.world
	var failures []string
	for i := range attempts {
		must := x.must(q)
		p := x.send(q)
		if !w.ok() {
			return p, false
		}
		switch verdict := x.judge(q, p); {
		case verdict == right:
			return p, true
		case verdict == refused, !must(p):
			x.excused = true
			return p, false
		}
		failures = append(failures, p.String())
		select {
		case <-time.After(50 * time.Millisecond << i): // a client's pause
		case <-w.over.Done():
			return p, false
		}
	}
	w.found("%s: %s of %s%s failed %d times, although a source has it: %s",
		x, q.method, q.repo.name, q.path, attempts, strings.Join(failures, "; "))
	return nil, false
}

// must returns whether the failure of a request that is sent now is a failure of
// the daemon: somebody who has the bytes was well all the time.
func (x *operation) must(q *request) func(*reply) bool {
	w := x.world
	stored := !q.digest.IsZero() && w.stored(q.repo, q.digest)
	return func(p *reply) bool {
		if !x.node.lived(p.life) {
			return false
		}
		if p.Response != nil && p.StatusCode == http.StatusServiceUnavailable && x.beyondStart(q) && w.suspect(p.begun) {
			return false // a right tail would be glued to a wrong beginning
		}
		byHub := w.hubHealth.wellSince(p.begun)
		byBucket := stored && w.bucketHealth.wellSince(p.begun)
		return byHub || byBucket
	}
}

// beyondStart reports whether the request is for a range that does not begin at
// the first byte.
func (x *operation) beyondStart(q *request) bool {
	span := q.header.Get("Range")
	return span != "" && !strings.HasPrefix(span, "bytes=0-")
}

// stored reports whether the bucket has the content, and knows it for the
// repository's.
func (w *world) stored(repo *modelRepo, d manifest.Digest) bool {
	o, ok := w.truth.object(repo, d)
	if !ok {
		return false
	}
	link := "_layers"
	if o.mediaType != "" {
		link = "_manifests/revisions"
	}
	_, linked := w.s3.Get(fmt.Sprintf("docker/registry/v2/repositories/docker.io/%s/%s/%s/%s/link", repo.name, link, d.Algorithm(), d.Hex()))
	if !linked && !w.refused.Load() {
		// A bucket that began to refuse between some bytes and their link keeps the bytes,
		// of which nobody knows then that they lack something.
		return false
	}
	_, there := w.s3.Get(blobKey(d))
	return there
}

// String is the answer for a person.
func (p *reply) String() string {
	took := p.ended.Sub(p.begun).Round(time.Millisecond)
	if p.Response == nil {
		return fmt.Sprintf("%v after %v", p.err, took)
	}
	s := fmt.Sprintf("%d (%s", p.StatusCode, took)
	if src := p.Header.Get("X-Registryd-Source"); src != "" {
		s += ", " + src
	}
	if p.Header.Get("Warning") != "" {
		s += ", warned"
	}
	s += ")"
	if p.broken {
		s += fmt.Sprintf(" broken at byte %d: %v", p.n, p.err)
	}
	if p.StatusCode >= 300 {
		s += " " + strings.TrimSpace(string(p.body))
	}
	return s
}

// pull pulls an image, in the manner of one of the runtimes.
func (x *operation) pull(repo *modelRepo, ref string) bool {
	d, err := manifest.ParseDigest(ref)
	if err != nil && x.r.IntN(3) > 0 { // docker and containerd ask first
		p, ok := x.get(&request{repo: repo, method: http.MethodHead, path: "/manifests/" + ref, tag: ref, abort: -1})
		if !ok {
			return false
		}
		d, _ = manifest.ParseDigest(p.Header.Get("Docker-Content-Digest"))
	}
	q := &request{repo: repo, method: http.MethodGet, path: "/manifests/" + ref, tag: ref, abort: -1}
	if !d.IsZero() {
		q.path, q.tag, q.digest = "/manifests/"+d.String(), "", d
	}
	p, ok := x.get(q)
	if !ok {
		return false
	}
	return x.pullBelow(repo, p.got)
}

// pullBelow pulls what a manifest names, docker's number of layers at once.
func (x *operation) pullBelow(repo *modelRepo, o object) bool {
	m, err := manifest.Parse(o.Bytes())
	if err != nil {
		x.world.found("%s: %s is no manifest: %v", x, o.Digest, err)
		return false
	}
	if len(m.Manifests) > 0 {
		child := m.Manifests[0].Digest
		p, ok := x.get(&request{repo: repo, method: http.MethodGet, path: "/manifests/" + child.String(), digest: child, abort: -1})
		return ok && x.pullBelow(repo, p.got)
	}
	results := make(chan bool, len(m.Layers)+1)
	slots := make(chan struct{}, parallelLayers)
	for _, l := range append([]manifest.Descriptor{*m.Config}, m.Layers...) {
		sub := x.sub()
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			_, ok := sub.get(&request{repo: repo, method: http.MethodGet, path: "/blobs/" + l.Digest.String(), digest: l.Digest, abort: -1})
			results <- ok
		}()
	}
	all := true
	for range len(m.Layers) + 1 {
		all = <-results && all
	}
	return all
}

// drawImage draws what to pull.
func (x *operation) drawImage() (*modelRepo, hubtest.Image) {
	repo := x.world.truth.drawRepo(x.r)
	return repo, x.world.truth.drawImage(x.r, repo)
}

// sub is the operation with a source of chance of its own, for another goroutine.
func (x *operation) sub() *operation {
	s := &operation{world: x.world, node: x.node, i: x.i, name: x.name, begun: x.begun, containerd: x.containerd,
		r: rand.New(rand.NewPCG(x.r.Uint64(), 0)), parent: x}
	return s
}
