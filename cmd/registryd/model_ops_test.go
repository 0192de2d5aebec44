package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"hostlocal/manifest"
)

// An operation is one of a client, or of the world, at work.
type operation struct {
	world      *world
	node       *node
	r          *rand.Rand
	i          int
	name       string
	begun      time.Time
	parent     *operation // nil but for a part of one
	containerd bool       // says which registry it means
	excused    bool       // failed, and may
	note       string
}

func (x *operation) String() string { return fmt.Sprintf("#%d %s at %s", x.i, x.name, x.node.name) }

// An op is a kind of operation and how often it is drawn.
type op struct {
	name   string
	weight int
	run    func(*operation)
}

// modelTable are the operations on what is mirrored, and those on the world.
var modelTable = []op{
	{"pull", 300, (*operation).pullTag},
	{"pull by digest", 80, (*operation).pullDigest},
	{"blob", 150, (*operation).blob},
	{"range", 150, (*operation).blobRange},
	{"head tag", 80, (*operation).headTag},
	{"head blob", 50, (*operation).headBlob},
	{"tags", 25, (*operation).tags},
	{"another's", 20, (*operation).foreign},
	{"nobody's", 15, (*operation).unknown},
	{"refresh", 15, (*operation).refresh},
	{"evict", 25, (*operation).evict},
	{"push", 20, func(x *operation) {
		repo, img := x.world.push(x.r)
		x.note = fmt.Sprintf("%s:%s = %s", repo.name, img.Tag, short(img.Digest))
	}},
	{"move tag", 25, func(x *operation) { x.note = x.world.truth.retag(x.r, false) }},
	{"delete tag", 8, func(x *operation) { x.note = x.world.truth.retag(x.r, true) }},
	{"forbid", 4, (*operation).forbid},
	{"hub fault", 20, (*operation).hubFault},
	{"bucket fault", 20, (*operation).bucketFault},
	{"damage", 25, (*operation).damage},
	{"restart", 3, (*operation).restart},
}

// allOps are all kinds of operations.
var allOps = append(slices.Clone(modelTable), ownTable...)

var modelWeights = func() (sum int) {
	for _, o := range allOps {
		sum += o.weight
	}
	return sum
}()

func drawOp(r *rand.Rand) op {
	k := r.IntN(modelWeights)
	for _, o := range allOps {
		if k -= o.weight; k < 0 {
			return o
		}
	}
	panic("unreachable")
}

func (x *operation) pullTag() {
	x.containerd = x.r.IntN(2) == 0
	repo := x.world.truth.drawRepo(x.r)
	tag := x.world.truth.drawTag(x.r)
	x.note = repo.name + ":" + tag
	x.excused = !x.pull(repo, tag)
}

func (x *operation) pullDigest() {
	x.containerd = x.r.IntN(2) == 0
	repo, img := x.drawImage()
	x.note = repo.name + "@" + short(img.Digest)
	x.excused = !x.pull(repo, img.Digest.String())
}

func (x *operation) blob() {
	repo := x.world.truth.drawRepo(x.r)
	o := x.world.truth.drawObject(x.r, repo, true)
	q := blobRequest(repo, o)
	q.slow = x.r.IntN(8) == 0
	if x.r.IntN(6) == 0 {
		q.abort = x.r.Int64N(o.Size + 1)
	}
	x.get(q)
}

func blobRequest(repo *modelRepo, o object) *request {
	return &request{repo: repo, method: http.MethodGet, path: "/blobs/" + o.Digest.String(), digest: o.Digest, abort: -1, header: http.Header{}}
}

// blobRange asks for a part of a blob, and often leaves in its middle.
func (x *operation) blobRange() {
	repo := x.world.truth.drawRepo(x.r)
	o := x.world.truth.drawObject(x.r, repo, true)
	q := blobRequest(repo, o)
	first := x.r.Int64N(o.Size)
	last := first + x.r.Int64N(o.Size-first)
	if x.r.IntN(3) == 0 {
		last = min(first+x.r.Int64N(4<<10), o.Size-1)
	}
	span := fmt.Sprintf("bytes=%d-%d", first, last)
	switch x.r.IntN(5) {
	case 0:
		span = fmt.Sprintf("bytes=%d-", first)
	case 1:
		span = fmt.Sprintf("bytes=-%d", 1+x.r.Int64N(o.Size))
	}
	q.header.Set("Range", span)
	if x.r.IntN(3) == 0 {
		q.abort = x.r.Int64N(last - first + 2)
	}
	x.get(q)
}

func (x *operation) headTag() {
	x.containerd = x.r.IntN(2) == 0
	repo, tag := x.world.truth.drawRepo(x.r), x.world.truth.drawTag(x.r)
	x.get(&request{repo: repo, method: http.MethodHead, path: "/manifests/" + tag, tag: tag, abort: -1})
}

func (x *operation) headBlob() {
	repo := x.world.truth.drawRepo(x.r)
	q := blobRequest(repo, x.world.truth.drawObject(x.r, repo, true))
	q.method = http.MethodHead
	x.get(q)
}

func (x *operation) tags() {
	repo := x.world.truth.drawRepo(x.r)
	x.get(&request{repo: repo, method: http.MethodGet, path: "/tags/list", abort: -1})
}

// foreign asks for what only another repository has: nobody may get it there.
func (x *operation) foreign() {
	repo, other := x.world.truth.drawRepo(x.r), x.world.truth.drawRepo(x.r)
	o := x.world.truth.drawObject(x.r, other, x.r.IntN(2) == 0)
	if _, own := x.world.truth.object(repo, o.Digest); own {
		return
	}
	path := "/blobs/"
	if o.mediaType != "" {
		path = "/manifests/"
	}
	x.wantNothing(&request{repo: repo, method: http.MethodGet, path: path + o.Digest.String(), digest: o.Digest, abort: -1})
}

// unknown asks for what nobody ever had.
func (x *operation) unknown() {
	repo := x.world.truth.drawRepo(x.r)
	sum := sha256.Sum256(binary.LittleEndian.AppendUint64(nil, x.r.Uint64()))
	d := manifest.DigestOf(sum[:])
	path := []string{"/blobs/", "/manifests/"}[x.r.IntN(2)]
	x.wantNothing(&request{repo: repo, method: []string{http.MethodGet, http.MethodHead}[x.r.IntN(2)], path: path + d.String(), digest: d, abort: -1})
}

// wantNothing wants a clean refusal.
func (x *operation) wantNothing(q *request) {
	must := x.must(q)
	p := x.send(q)
	if !x.world.ok() || p.Response == nil {
		return
	}
	switch {
	case p.StatusCode < 300:
		x.world.found("%s: %s of %s is served, and is not in that repository: %s", x, q.digest, q.repo.name, p)
	case p.StatusCode >= 500 && must(p):
		x.world.found("%s: %s of %s: not a refusal, and the upstream answers: %s", x, q.digest, q.repo.name, p)
	}
}

// refresh asks the upstream through the admin API.
func (x *operation) refresh() {
	repo, tag := x.world.truth.drawRepo(x.r), x.world.truth.drawTag(x.r)
	x.note = repo.name + ":" + tag
	p := &reply{life: x.node.life(), begun: time.Now()}
	status, body, err := x.node.order("refresh", repo.name+":"+tag)
	p.ended = time.Now()
	if err != nil || status >= 300 {
		x.excused = true
		if x.world.hubHealth.wellSince(p.begun) && x.node.lived(p.life) && (err != nil || status >= 500) {
			x.world.found("%s: refresh of %s: %d %s %v", x, x.note, status, body, err)
		}
		return
	}
	var said struct {
		Now manifest.Digest `json:"now"`
	}
	if err := json.Unmarshal([]byte(body), &said); err != nil {
		x.world.found("%s: refresh says %s: %v", x, body, err)
		return
	}
	// It joins a confirmation that is under way, but does not believe an old one.
	if !x.world.truth.stood(repo, tag, said.Now, p.begun.Add(-x.tagSlack(p)), p.ended) {
		x.world.found("%s: refresh of %s says %s", x, x.note, said.Now)
	}
}

// evict takes an image from the daemon's disk.
func (x *operation) evict() {
	repo, tag := x.world.truth.drawRepo(x.r), x.world.truth.drawTag(x.r)
	x.note = repo.name + ":" + tag
	life := x.node.life()
	status, body, err := x.node.order("evict", x.note)
	if (err != nil || status >= 300) && x.node.lived(life) {
		x.world.found("%s: evict of %s: %d %s %v", x, x.note, status, body, err)
	}
}

func (x *operation) forbid() {
	w := x.world
	repo := w.truth.drawRepo(x.r)
	x.note = repo.name
	allow := w.truth.forbid(repo)
	t := time.AfterFunc(100*time.Millisecond+time.Duration(x.r.IntN(2000))*time.Millisecond, allow)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.allows = append(slices.Clone(w.allows), t)
}

func (x *operation) restart() {
	kill := x.node.apart && x.r.IntN(3) > 0
	x.note = "ended"
	if kill {
		x.note = "killed"
	}
	x.node.restart(kill, func() {
		for range x.r.IntN(3) {
			x.node.damageOne(x.r)
		}
	})
}
