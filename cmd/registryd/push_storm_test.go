package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

// A pushStorm are clients that push whole images, move tags, sign and delete, and that
// believe an acknowledgment, while a test makes something go wrong. What broke off
// they go on with.
type pushStorm struct {
	*host
	bucket  openBucket
	seed    uint64
	ledger  *ledger
	audit   *auditor
	clients []*stormClient
	over    atomic.Bool // the daemon is being killed: what breaks off now does so for that
	cuts    atomic.Bool // connections are being cut
	ill     atomic.Bool // the bucket is, or was a moment ago
	common  []hubtest.Content

	mu    sync.Mutex // guards what follows
	did   map[string]int
	wrong error // the first finding
}

const (
	pushClients = 5
	sharedRepo  = "team/shared" // all push to it, nobody deletes there
)

func newPushStorm(h *host, seed uint64) *pushStorm {
	b := h.bucket.(openBucket)
	s := &pushStorm{host: h, bucket: b, seed: seed, ledger: newLedger(), audit: newAuditor(b), did: map[string]int{}}
	for i := range 4 { // that all push at once
		s.common = append(s.common, hubtest.Generated(seed<<32|uint64(i)<<24, []int64{900, 70 << 10, 3 << 20, 18 << 20}[i]))
	}
	for i := range pushClients {
		s.clients = append(s.clients, &stormClient{s: s, id: i, r: rand.New(rand.NewPCG(seed, uint64(i))), repo: fmt.Sprintf("team/client%d", i)})
	}
	return s
}

// found notes the first thing that must not be.
func (s *pushStorm) found(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wrong == nil {
		s.wrong = fmt.Errorf(format, args...)
	}
}

func (s *pushStorm) finding() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wrong
}

func (s *pushStorm) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.did[what]++
}

// A stormClient is one of them. Only it changes its own repository.
type stormClient struct {
	s       *pushStorm
	id      int
	r       *rand.Rand
	http    *pushClient
	repo    string
	made    uint64
	broken  []*sending // uploads to go on with
	blobs   []hubtest.Content
	images  []pushedManifest // in its repository, acknowledged and not deleted
	stopped bool
}

// run does so many things, or fewer if the daemon ends.
func (c *stormClient) run(ctx context.Context, n int) {
	c.stopped = false
	for i := 0; i < n && !c.stopped && c.s.finding() == nil; i++ {
		if len(c.broken) > 0 && c.r.IntN(4) > 0 {
			c.goOn(ctx)
			continue
		}
		switch x := c.r.IntN(100); {
		case x < 50:
			c.image(ctx, c.repo)
		case x < 68:
			c.image(ctx, sharedRepo)
		case x < 74:
			c.deleteTag(ctx)
		case x < 80:
			c.deleteManifest(ctx)
		case x < 85:
			c.deleteBlob(ctx)
		case x < 90:
			c.leave(ctx)
		case x < 95:
			c.twice(ctx)
		default:
			c.lie(ctx)
		}
	}
}

// went says what came of something that had err: true if it was acknowledged. What
// must not be is a finding, anything else has its reason.
func (c *stormClient) went(what string, err error) bool {
	s := c.s
	var got wantedStatus
	switch {
	case err == nil:
		s.count(what)
		return true
	case s.over.Load():
		c.stopped = true
	case errors.As(err, &got) && s.ill.Load() && (got.status >= 502 || got.status == 403 || got.status == 429):
		s.count("refused for the bucket")
	case errors.As(err, &got) && s.cuts.Load() && got.status == 409: // what was cut is still being read
		s.count("busy")
	case !errors.As(err, &got) && s.cuts.Load():
		s.count("cut")
	default:
		s.found("client %d: %s: %v", c.id, what, err)
	}
	return false
}

func (c *stormClient) draw() hubtest.Content {
	c.made++
	seed := c.s.seed<<32 | uint64(c.id+1)<<24 | c.made
	switch x := c.r.IntN(100); {
	case x < 50:
		return hubtest.Generated(seed, 2+c.r.Int64N(4<<10))
	case x < 85:
		return hubtest.Generated(seed, 4<<10+c.r.Int64N(400<<10))
	case x < 94:
		return hubtest.Generated(seed, 1<<20+c.r.Int64N(7<<20))
	}
	return hubtest.Generated(seed, 8<<20+c.r.Int64N(12<<20)) // in parts, up to two
}

// send pushes a blob, and keeps what broke off.
func (c *stormClient) send(ctx context.Context, repo string, x hubtest.Content) bool {
	way := ways[c.r.IntN(len(ways))]
	u := &sending{repo: repo, blob: x, digest: x.Digest}
	if x.Size < 1<<20 && c.r.IntN(12) == 0 {
		u.digest = sha512Of(x)
	}
	if c.went(way, c.http.push(ctx, c.r, way, u)) {
		c.has(u)
		return u.digest == x.Digest
	}
	if u.at != "" {
		c.broken = append(c.broken, u)
	}
	return false
}

// has notes an acknowledged blob, which the bucket has to have by now.
func (c *stormClient) has(u *sending) {
	if err := holds(c.s.bucket, blobKey(u.digest), layerKey(u.repo, u.digest)); err != nil {
		c.s.found("client %d: blob of %d bytes: %v", c.id, u.blob.Size, err)
	}
	c.s.ledger.blob(u.repo, u.digest, u.blob)
	if u.repo == c.repo && u.digest == u.blob.Digest {
		c.blobs = append(c.blobs, u.blob)
	}
}

// goOn continues an upload that broke off, or leaves it for good.
func (c *stormClient) goOn(ctx context.Context) {
	i := c.r.IntN(len(c.broken))
	u := c.broken[i]
	if c.r.IntN(8) == 0 {
		c.broken = slices.Delete(c.broken, i, i+1)
		c.s.count("left for good")
		return
	}
	err := c.http.resume(ctx, u)
	var got wantedStatus
	if errors.As(err, &got) && got.status == 400 && c.s.cuts.Load() && bytes.Contains(got.body, []byte("DIGEST_INVALID")) && !bytes.Contains(got.body, fmt.Appendf(nil, "the %d bytes", u.blob.Size)) {
		// A request without a range, of a connection that was cut, was read only after
		// the client had gone on: its bytes came twice, and the digest has told.
		c.broken = slices.Delete(c.broken, i, i+1)
		c.s.count("came twice")
		return
	}
	if errors.As(err, &got) && got.status == 416 && c.s.cuts.Load() {
		// A request of a connection that was cut was read between the question how far
		// the upload is and what follows: it stands further, and is asked again.
		c.s.count("asked too early")
		return
	}
	if err != nil {
		err = fmt.Errorf("blob of %d bytes, %q: %w", u.blob.Size, u.story, err)
	}
	if c.went("gone on with", err) {
		c.broken = slices.Delete(c.broken, i, i+1)
		c.has(u)
	}
}

// mount has a blob of another repository be seen in repo.
func (c *stormClient) mount(ctx context.Context, from, repo string, x hubtest.Content) bool {
	a, err := c.http.send(ctx, "POST for a mount", "POST", "/v2/"+repo+"/blobs/uploads/?mount="+x.Digest.String()+"&from="+from, nil)
	if err == nil && a.status == 202 && c.s.ill.Load() {
		c.http.send(ctx, "DELETE of an upload", "DELETE", a.header.Get("Location"), nil)
		c.s.count("not mounted")
		return false
	}
	if err == nil && a.status != 201 {
		err = wantedStatus{"mount", 201, a}
	}
	if c.went("mount", err) {
		c.has(&sending{repo: repo, blob: x, digest: x.Digest})
		return true
	}
	return false
}

// image pushes blobs and a manifest of them.
func (c *stormClient) image(ctx context.Context, repo string) {
	var layers []manifest.Descriptor
	for range 1 + c.r.IntN(3) {
		var x hubtest.Content
		ok := false
		switch k := c.r.IntN(10); {
		case k == 0 && len(c.blobs) > 0 && repo != c.repo:
			x = c.blobs[c.r.IntN(len(c.blobs))]
			ok = c.mount(ctx, c.repo, repo, x)
		case k < 4 && repo != c.repo:
			x = c.s.common[c.r.IntN(len(c.s.common))]
			ok = c.send(ctx, repo, x)
		case k == 4 && len(c.blobs) > 0 && repo == c.repo:
			x, ok = c.blobs[c.r.IntN(len(c.blobs))], true
		default:
			x = c.draw()
			ok = c.send(ctx, repo, x)
		}
		if !ok {
			return
		}
		layers = append(layers, descriptor("application/vnd.oci.image.layer.v1.tar", x.Digest, x.Size))
	}
	config := hubtest.Literal([]byte(`{}`))
	if !c.send(ctx, repo, config) {
		return
	}
	var subject *manifest.Descriptor
	if repo == c.repo && len(c.images) > 0 && c.r.IntN(4) == 0 {
		of := c.images[c.r.IntN(len(c.images))]
		d := descriptor(of.kind, of.digest, int64(len(of.body)))
		subject = &d
	}
	c.made++
	m := compose(fmt.Sprint(c.s.seed, c.id, c.made), descriptor("application/vnd.oci.image.config.v1+json", config.Digest, config.Size), layers, subject)
	if !c.put(ctx, repo, m) || repo != c.repo || c.r.IntN(5) > 0 {
		return
	}
	c.put(ctx, repo, composeIndex(fmt.Sprint(c.made), c.images[max(0, len(c.images)-3):]))
}

// put pushes a manifest, by a tag, by its digest, or by its digest with tags.
func (c *stormClient) put(ctx context.Context, repo string, m pushedManifest) bool {
	ref, tags := m.digest.String(), []string(nil)
	tag := fmt.Sprintf("v%d", c.r.IntN(4))
	kind := "PUT of a manifest"
	switch c.r.IntN(5) {
	case 0:
	case 1:
		tags = []string{tag, tag + "-also"}
		ref += "?tag=" + tag + "&tag=" + tag + "-also"
		kind = "PUT of a manifest with tags"
	default:
		ref, tags, kind = tag, []string{tag}, "PUT of a tag"
	}
	for _, t := range tags {
		c.s.ledger.mayTag(repo, t, m.digest)
	}
	_, err := c.http.want(ctx, 201, kind, "PUT", "/v2/"+repo+"/manifests/"+ref, io.NewSectionReader(bytes.NewReader(m.body), 0, int64(len(m.body))), "Content-Type: "+m.kind)
	if !c.went(kind, err) {
		for _, t := range tags {
			c.s.ledger.doubt(repo, t, m.digest)
		}
		return false
	}
	if err := holds(c.s.bucket, blobKey(m.digest), revisionKey(repo, m.digest)); err != nil {
		c.s.found("client %d: %s: %v", c.id, kind, err)
	}
	for _, t := range tags {
		if said, _ := c.s.bucket.read(tagKey(repo, t)); repo == c.repo && string(said) != m.digest.String() {
			c.s.found("client %d: %s:%s was acknowledged as %s, and the bucket says %q", c.id, repo, t, m.digest, said)
		}
		c.s.ledger.tag(repo, t, m.digest, repo != c.repo)
	}
	c.s.ledger.manifest(repo, m)
	if repo == c.repo {
		c.images = append(c.images, m)
	}
	return true
}

// deleteTag deletes a tag of its own, which may not be there.
func (c *stormClient) deleteTag(ctx context.Context) {
	tag := fmt.Sprintf("v%d", c.r.IntN(4))
	c.s.ledger.mayTag(c.repo, tag, manifest.Digest{})
	a, err := c.http.send(ctx, "DELETE of a tag", "DELETE", "/v2/"+c.repo+"/manifests/"+tag, nil)
	if err == nil && a.status != 202 && a.status != 404 {
		err = wantedStatus{"DELETE of a tag", 202, a}
	}
	if c.went("DELETE of a tag", err) {
		c.s.ledger.tag(c.repo, tag, manifest.Digest{}, false)
	} else {
		c.s.ledger.doubt(c.repo, tag, manifest.Digest{})
	}
}

// deleteManifest deletes a manifest of its own.
func (c *stormClient) deleteManifest(ctx context.Context) {
	if len(c.images) == 0 {
		return
	}
	i := c.r.IntN(len(c.images))
	d := c.images[i].digest
	c.images = slices.Delete(c.images, i, i+1)
	c.s.ledger.mayDelete(c.repo, d)
	a, err := c.http.send(ctx, "DELETE of a manifest", "DELETE", "/v2/"+c.repo+"/manifests/"+d.String(), nil)
	if err == nil && a.status != 202 {
		err = wantedStatus{"DELETE of a manifest", 202, a}
	}
	if !c.went("DELETE of a manifest", err) {
		return
	}
	c.s.ledger.deleted(c.repo, d)
	if f := c.s.bucket.(interface{ has(string) bool }); f.has(revisionKey(c.repo, d)) {
		c.s.found("client %d: %s was deleted, and the bucket still shows it", c.id, d)
	}
}

// deleteBlob deletes a blob that no manifest names.
func (c *stormClient) deleteBlob(ctx context.Context) {
	x := c.draw()
	n := len(c.blobs)
	if !c.send(ctx, c.repo, x) {
		return
	}
	c.blobs = c.blobs[:n]
	c.s.ledger.mayDeleteBlob(c.repo, x.Digest)
	_, err := c.http.want(ctx, 202, "DELETE of a blob", "DELETE", "/v2/"+c.repo+"/blobs/"+x.Digest.String(), nil)
	c.went("DELETE of a blob", err)
}

// leave begins an upload that nobody goes on with, or cancels it.
func (c *stormClient) leave(ctx context.Context) {
	u := &sending{repo: c.repo, blob: c.draw()}
	a, err := c.http.want(ctx, 202, "POST", "POST", "/v2/"+c.repo+"/blobs/uploads/", nil)
	if !c.went("begun", err) {
		return
	}
	u.at = a.header.Get("Location")
	half := u.blob.Size / 2
	if !c.went("half sent", c.http.add(ctx, u, "PATCH of a half", io.NewSectionReader(u.blob, 0, half), half)) || c.r.IntN(2) == 0 {
		return
	}
	_, err = c.http.want(ctx, 204, "DELETE of an upload", "DELETE", u.at, nil)
	c.went("canceled", err)
}

// lie ends an upload with another digest than its bytes have: it must be refused, and
// be gone.
func (c *stormClient) lie(ctx context.Context) {
	x, other := c.draw(), c.draw()
	a, err := c.http.want(ctx, 202, "POST", "POST", "/v2/"+c.repo+"/blobs/uploads/", nil)
	if !c.went("begun", err) {
		return
	}
	at := a.header.Get("Location")
	_, err = c.http.want(ctx, 400, "PUT of a lie", "PUT", at+"?digest="+other.Digest.String(), io.NewSectionReader(x, 0, x.Size))
	if !c.went("lie", err) {
		return
	}
	_, err = c.http.want(ctx, 404, "GET of an upload", "GET", at, nil)
	c.went("gone after a lie", err)
}

// twice has two send the same upload at once: at most one's bytes count at a time, so
// that the blob in the end is right, or there is none.
func (c *stormClient) twice(ctx context.Context) {
	x := c.draw()
	u := &sending{repo: c.repo, blob: x, digest: x.Digest}
	a, err := c.http.want(ctx, 202, "POST", "POST", "/v2/"+c.repo+"/blobs/uploads/", nil)
	if !c.went("begun", err) {
		return
	}
	u.at, u.ending = a.header.Get("Location"), true
	var both sync.WaitGroup
	var got [2]pushAnswer
	var errs [2]error
	for i := range 2 {
		both.Go(func() {
			span := fmt.Sprintf("Content-Range: 0-%d", x.Size-1)
			got[i], errs[i] = c.http.send(ctx, "PUT of two at once", "PUT", u.at+"?digest="+x.Digest.String(), io.NewSectionReader(x, 0, x.Size), span)
		})
	}
	both.Wait()
	done := false
	for i := range 2 {
		if err := errs[i]; err == nil && got[i].status != 201 {
			if got[i].status == 416 || got[i].status == 409 || got[i].status == 404 {
				continue // it came second
			}
			errs[i] = wantedStatus{"PUT of two at once", 201, got[i]}
		}
		done = c.went("two at once", errs[i]) || done
	}
	if done {
		c.has(u)
	} else {
		c.broken = append(c.broken, u)
	}
}
