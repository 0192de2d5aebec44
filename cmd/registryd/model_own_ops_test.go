package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

// ownTable are the operations on the bucket's own repositories.
var ownTable = []op{
	{"own push", 110, (*operation).ownPush},
	{"own retag", 60, (*operation).ownRetag},
	{"own pull", 160, (*operation).ownPull},
	{"own by digest", 50, (*operation).ownByDigest},
	{"own gone", 20, (*operation).ownGone},
	{"own referrers", 25, (*operation).ownReferrers},
	{"own tags", 15, (*operation).ownList},
	{"own untag", 10, (*operation).ownUntag},
	{"own delete", 20, (*operation).ownDelete},
	{"own unlink", 10, (*operation).ownUnlink},
	{"own abandon", 12, (*operation).ownAbandon},
}

// ownAsk is one request to the operation's daemon.
type ownAsk struct {
	begun time.Time
	life  int
	pushAnswer
	err error
}

func (x *operation) ownClient() *pushClient {
	return &pushClient{base: "http://registry", http: x.node.http}
}

// ownSend sends a request and logs it.
func (x *operation) ownSend(kind, method, path string, body []byte, header ...string) ownAsk {
	a := ownAsk{life: x.node.life(), begun: time.Now()}
	ctx, cancel := context.WithTimeout(x.world.over, pushPatience)
	defer cancel()
	var r io.Reader
	if body != nil {
		r = io.NewSectionReader(bytes.NewReader(body), 0, int64(len(body)))
	}
	a.pushAnswer, a.err = x.ownClient().send(ctx, kind, method, path, r, header...)
	said := fmt.Sprint(a.status)
	if a.status >= 300 {
		said = a.String()
	}
	x.world.log.add(fmt.Sprintf("%s %s  %s %s -> %s %v %s (%v)", a.begun.Format("05.000"), x, method, path, said, a.err, a.header.Get("Docker-Content-Digest"), time.Since(a.begun).Round(time.Millisecond)))
	return a
}

// mustOwn reports whether a failure of something that began then is one of the daemon.
func (x *operation) mustOwn(begun time.Time, life int) bool {
	return x.world.ok() && x.node.lived(life) && x.world.bucketHealth.wellSince(begun)
}

// ownFailed says of a change that was not acknowledged whether it may be so.
func (x *operation) ownFailed(what string, begun time.Time, life int, err error) {
	x.excused = true
	var got wantedStatus
	if errors.As(err, &got) {
		switch {
		case got.status == 500:
			x.world.found("%s: %s: 500 is no answer of this daemon: %v", x, what, err)
		case bytes.Contains(got.body, []byte("no room")):
			return // the budget is small
		case got.status == 403 && x.world.refused.Load():
			return // believed to be read only until it is tried again
		}
	}
	if x.mustOwn(begun, life) {
		x.world.found("%s: %s, with the bucket well: %v", x, what, err)
	}
}

func (x *operation) ownRepo() *ownRepo { return x.world.own.repos[x.r.IntN(ownRepos)] }

func (x *operation) ownTag() string { return fmt.Sprintf("v%d", x.r.IntN(ownTags)) }

func blobOf(repo string, d manifest.Digest) ownKey { return ownKey{repo, "blob", d.String()} }

func manifestOf(repo string, d manifest.Digest) ownKey { return ownKey{repo, "manifest", d.String()} }

// ownBlob pushes a blob, in one of the ways.
func (x *operation) ownBlob(repo *ownRepo, c hubtest.Content) bool {
	begun, life := time.Now(), x.node.life()
	end := x.world.own.begin(x.node, c.Digest, blobOf(repo.name, c.Digest))
	ctx, cancel := context.WithTimeout(x.world.over, pushPatience)
	defer cancel()
	way := ways[x.r.IntN(len(ways))]
	s := &sending{repo: repo.name, blob: c, digest: c.Digest}
	err := x.ownClient().push(ctx, x.r, way, s)
	x.world.log.add(fmt.Sprintf("%s %s  %s of %s to %s -> %v", begun.Format("05.000"), x, way, short(c.Digest), repo.name, err))
	end(err == nil)
	if err == nil {
		if said, _ := x.world.s3.Get(layerKey(repo.name, c.Digest)); len(said) == 0 {
			x.world.found("%s: blob %s was acknowledged, and the bucket does not show it in %s", x, c.Digest, repo.name)
		}
		return true
	}
	x.ownFailed(way, begun, life, err)
	return false
}

// ownMount has a blob of another repository be seen in repo.
func (x *operation) ownMount(repo, from *ownRepo, c hubtest.Content) bool {
	begun, life := time.Now(), x.node.life()
	end := x.world.own.begin(x.node, c.Digest, blobOf(repo.name, c.Digest))
	a := x.ownSend("mount", "POST", "/v2/"+repo.name+"/blobs/uploads/?mount="+c.Digest.String()+"&from="+from.name, nil)
	end(a.err == nil && a.status == 201)
	switch {
	case a.err == nil && a.status == 201:
		return true
	case a.err == nil && a.status == 202:
		x.ownSend("cancel", "DELETE", a.header.Get("Location"), nil)
		if x.mustOwn(begun, life) && !x.world.refused.Load() {
			x.world.found("%s: %s was not mounted from %s, which has it", x, c.Digest, from.name)
		}
	case a.err == nil:
		x.ownFailed("mount", begun, life, wantedStatus{"mount", 201, a.pushAnswer})
	default:
		x.ownFailed("mount", begun, life, a.err)
	}
	return false
}

func (r *ownRepo) someBlob(x *operation) (hubtest.Content, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.blobs) == 0 {
		return hubtest.Content{}, false
	}
	return r.blobs[x.r.IntN(len(r.blobs))], true
}

func (r *ownRepo) someImage(x *operation) (pushedManifest, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.images); n > 0 {
		return r.images[max(x.r.IntN(n), x.r.IntN(n))], true
	}
	return pushedManifest{}, false
}

func (x *operation) ownContent() hubtest.Content {
	return hubtest.Generated(x.world.seed<<20+1<<19+x.world.own.next(), min(layerSize(x.r), 2<<20)) // spools are not evicted
}

// ownPush pushes an image, or a signature of one.
func (x *operation) ownPush() {
	repo := x.ownRepo()
	var layers []manifest.Descriptor
	for range 1 + x.r.IntN(2) {
		c, ok := hubtest.Content{}, false
		k := x.r.IntN(10)
		if k < 2 {
			c, ok = repo.someBlob(x)
		}
		if other := x.ownRepo(); k == 2 && other != repo {
			if c, ok = other.someBlob(x); ok && !x.ownMount(repo, other, c) {
				return
			}
		}
		if !ok {
			if c = x.ownContent(); !x.ownBlob(repo, c) {
				return
			}
		}
		repo.mu.Lock()
		repo.blobs = append(repo.blobs, c)
		repo.mu.Unlock()
		layers = append(layers, descriptor("application/vnd.oci.image.layer.v1.tar", c.Digest, c.Size))
	}
	config := hubtest.Literal([]byte(`{}`))
	if !x.ownBlob(repo, config) {
		return
	}
	var subject *manifest.Descriptor
	if of, ok := repo.someImage(x); ok && x.r.IntN(3) == 0 {
		d := descriptor(of.kind, of.digest, int64(len(of.body)))
		subject = &d
	}
	m := compose(fmt.Sprint(x.world.seed, " ", x.i), descriptor("application/vnd.oci.image.config.v1+json", config.Digest, config.Size), layers, subject)
	if x.ownPut(repo, m, x.ownTag()) {
		repo.mu.Lock()
		repo.images = append(repo.images, m)
		repo.mu.Unlock()
	}
}

// ownPut pushes a manifest, while another host is asked for the tag all the time.
func (x *operation) ownPut(repo *ownRepo, m pushedManifest, tag string) bool {
	own, life := x.world.own, x.node.life()
	keys := []ownKey{manifestOf(repo.name, m.digest), {repo.name, "tag", tag}}
	if !m.subject.IsZero() {
		keys = append(keys, ownKey{repo.name, "referrer", m.subject.String() + " " + m.digest.String()})
	}
	end := own.begin(x.node, m.digest, keys...)
	x.note = fmt.Sprintf("%s:%s = %s", repo.name, tag, short(m.digest))
	seen := x.ownWatch(repo, tag)
	a := x.ownSend("PUT of a tag", "PUT", "/v2/"+repo.name+"/manifests/"+tag, m.body, "Content-Type: "+m.kind)
	seen()
	end(a.err == nil && a.status == 201)
	if a.err == nil && a.status != 201 {
		a.err = wantedStatus{"PUT of a tag", 201, a.pushAnswer}
	}
	if a.err != nil {
		x.ownFailed("PUT of a tag", a.begun, life, a.err)
		return false
	}
	if said, _ := x.world.s3.Get(revisionKey(repo.name, m.digest)); len(said) == 0 && !own.removedSince(manifestOf(repo.name, m.digest), a.begun) {
		x.world.found("%s: %s was acknowledged, and the bucket does not show it", x, m.digest)
	}
	return true
}

// ownWatch pulls a tag from another host until seen is called: what it stands for is
// there at any moment.
func (x *operation) ownWatch(repo *ownRepo, tag string) (seen func()) {
	over, done := make(chan struct{}), make(chan struct{})
	y := &operation{world: x.world, node: x.world.nodes[x.r.IntN(len(x.world.nodes))], i: x.i, name: "own watch", begun: time.Now(), parent: x}
	go func() {
		defer close(done)
		for x.world.ok() {
			select {
			case <-over:
				return
			default:
				y.ownRead(http.MethodGet, "/manifests/"+tag, ownKey{repo.name, "tag", tag}, manifest.Digest{})
			}
		}
	}()
	return func() { close(over); <-done }
}

// ownRetag has a tag stand for an image that is there.
func (x *operation) ownRetag() {
	repo := x.ownRepo()
	if m, ok := repo.someImage(x); ok {
		x.ownPut(repo, m, x.ownTag())
	}
}

// ownRead is a GET or HEAD of something that may be there; it is judged. It returns
// nil if nothing is to be made of it.
func (x *operation) ownRead(method, path string, k ownKey, d manifest.Digest) *ownAsk {
	w := x.world
	if !w.ownKnown(k.repo) {
		return nil
	}
	a := x.ownSend(method, method, "/v2/"+k.repo+path, nil, "Accept: "+manifestTypes+", */*")
	ended := time.Now()
	if a.err != nil || a.status >= 500 || a.status == 429 {
		x.excused = true
		if x.mustOwn(a.begun, a.life) {
			w.found("%s: %s of the %s, with the bucket well: %s %v", x, method, k, a.pushAnswer, a.err)
		}
		return nil
	}
	at := d
	switch {
	case a.status == 404:
		at = manifest.Digest{}
	case a.status != 200:
		w.found("%s: %s of the %s: %s", x, method, k, a.pushAnswer)
		return nil
	case k.kind == "tag":
		at, _ = manifest.ParseDigest(a.header.Get("Docker-Content-Digest"))
	}
	if a.header.Get("Warning") != "" || !w.bucketHealth.wellSince(a.begun.Add(-2*ownLinkTTL)) {
		if !at.IsZero() && !w.own.ever(k, at) {
			w.found("%s: the %s is %s, which it never was: %s", x, k, at, a.pushAnswer)
		}
		if at.IsZero() {
			return nil
		}
		return &a
	}
	stale := ownLinkTTL + w.noise.late()
	if k.kind == "tag" {
		stale = 0
	}
	if !w.own.may(k, at, x.node, a.begun, ended, stale) {
		w.found("%s: %s says that the %s is %q, which cannot be: %d", x, method, k, at, a.status)
		return nil
	}
	if at.IsZero() {
		return nil
	}
	return &a
}

// ownKnown reports whether a repository has had a manifest, so that every host knows
// that it is the bucket's own.
func (w *world) ownKnown(repo string) bool {
	for _, r := range w.own.repos {
		if r.name == repo {
			r.mu.Lock()
			defer r.mu.Unlock()
			return len(r.images) > 0
		}
	}
	return false
}

// ownPull pulls what a tag stands for: all of it is there.
func (x *operation) ownPull() {
	repo, tag := x.ownRepo(), x.ownTag()
	x.note = repo.name + ":" + tag
	if a := x.ownRead(http.MethodGet, "/manifests/"+tag, ownKey{repo.name, "tag", tag}, manifest.Digest{}); a != nil {
		x.ownBelow(repo, a.body, a.header.Get("Docker-Content-Digest"))
	}
}

// ownBelow pulls what a manifest names.
func (x *operation) ownBelow(repo *ownRepo, body []byte, digest string) {
	d, err := manifest.ParseDigest(digest)
	if err != nil {
		x.world.found("%s: Docker-Content-Digest is %q", x, digest)
		return
	}
	m, err := manifest.ParseAs(d, body)
	if err != nil {
		x.world.found("%s: %v", x, err)
		return
	}
	for _, b := range m.Blobs() {
		begun, life := time.Now(), x.node.life()
		a := x.ownSend("blob", "GET", "/v2/"+repo.name+"/blobs/"+b.Digest.String(), nil)
		switch {
		case a.err == nil && a.status == 200:
			if err := b.Digest.Verify(a.body); err != nil {
				x.world.found("%s: blob of %s: %v", x, repo.name, err)
			}
		case x.mustOwn(begun, life):
			x.world.found("%s: half an image: blob %s of %s@%s: %s %v", x, b.Digest, repo.name, d, a.pushAnswer, a.err)
		default:
			x.excused = true
		}
	}
}

// ownByDigest asks for a manifest that was pushed, and may be deleted.
func (x *operation) ownByDigest() {
	repo := x.ownRepo()
	if m, ok := repo.someImage(x); ok {
		x.note = repo.name + "@" + short(m.digest)
		if a := x.ownRead(http.MethodGet, "/manifests/"+m.digest.String(), manifestOf(repo.name, m.digest), m.digest); a != nil && !bytes.Equal(a.body, m.body) {
			x.world.found("%s: %s of %s has other bytes", x, m.digest, repo.name)
		}
	}
}

// ownGone asks for a blob that was deleted, or is about to be.
func (x *operation) ownGone() {
	repo := x.ownRepo()
	repo.mu.Lock()
	n := len(repo.gone)
	var c hubtest.Content
	if n > 0 {
		c = repo.gone[max(x.r.IntN(n), x.r.IntN(n))]
	}
	repo.mu.Unlock()
	if n > 0 {
		x.ownRead([]string{http.MethodGet, http.MethodHead}[x.r.IntN(2)], "/blobs/"+c.Digest.String(), blobOf(repo.name, c.Digest), c.Digest)
	}
}

// ownReferrers asks what refers to an image.
func (x *operation) ownReferrers() {
	w, repo := x.world, x.ownRepo()
	m, ok := repo.someImage(x)
	if !ok {
		return
	}
	a := x.ownSend("referrers", "GET", "/v2/"+repo.name+"/referrers/"+m.digest.String(), nil)
	ended := time.Now()
	if a.err != nil || a.status != 200 {
		x.excused = true
		if x.mustOwn(a.begun, a.life) {
			w.found("%s: referrers of %s: %s %v", x, m.digest, a.pushAnswer, a.err)
		}
		return
	}
	if !w.bucketHealth.wellSince(a.begun.Add(-2 * ownLinkTTL)) {
		return
	}
	var list struct{ Manifests []manifest.Descriptor }
	if err := json.Unmarshal(a.body, &list); err != nil {
		w.found("%s: referrers of %s: %v in %s", x, m.digest, err, a.body)
		return
	}
	repo.mu.Lock()
	images := slices.Clone(repo.images)
	repo.mu.Unlock()
	for _, i := range images {
		if i.subject != m.digest {
			continue
		}
		k := ownKey{repo.name, "referrer", m.digest.String() + " " + i.digest.String()}
		at := manifest.Digest{}
		if slices.ContainsFunc(list.Manifests, func(d manifest.Descriptor) bool { return d.Digest == i.digest }) {
			at = i.digest
		}
		if !w.own.may(k, at, x.node, a.begun, ended, ownLinkTTL+w.noise.late()) {
			w.found("%s: the %s is %q, which cannot be: %s", x, k, at, a.body)
		}
	}
}

// ownList asks for the tags: one that is there is listed.
func (x *operation) ownList() {
	w, repo := x.world, x.ownRepo()
	if !w.ownKnown(repo.name) {
		return
	}
	a := x.ownSend("tags", "GET", "/v2/"+repo.name+"/tags/list", nil)
	ended := time.Now()
	if a.err != nil || a.status != 200 {
		x.excused = true
		if x.mustOwn(a.begun, a.life) && a.status != 404 {
			w.found("%s: tags of %s: %s %v", x, repo.name, a.pushAnswer, a.err)
		}
		return
	}
	if !w.bucketHealth.wellSince(a.begun.Add(-2 * ownLinkTTL)) {
		return
	}
	for i := range ownTags {
		k := ownKey{repo.name, "tag", fmt.Sprintf("v%d", i)}
		if !strings.Contains(string(a.body), fmt.Sprintf("%q", k.what)) && !w.own.may(k, manifest.Digest{}, x.node, a.begun, ended, 0) {
			w.found("%s: the %s is there, and is not listed: %s", x, k, a.body)
		}
	}
}

// ownChange deletes something.
func (x *operation) ownChange(what, path string, keys ...ownKey) bool {
	life := x.node.life()
	end := x.world.own.begin(x.node, manifest.Digest{}, keys...)
	a := x.ownSend(what, "DELETE", path, nil)
	done := a.err == nil && (a.status == 202 || a.status == 404)
	if a.status == 404 && !x.world.bucketHealth.wellSince(a.begun) {
		done = false // a link that was read wrong is none
	}
	end(done)
	if a.err == nil && !done {
		a.err = wantedStatus{what, 202, a.pushAnswer}
	}
	if a.err != nil {
		x.ownFailed(what, a.begun, life, a.err)
	}
	return done
}

func (x *operation) ownUntag() {
	repo, tag := x.ownRepo(), x.ownTag()
	if x.world.ownKnown(repo.name) {
		x.note = repo.name + ":" + tag
		x.ownChange("DELETE of a tag", "/v2/"+repo.name+"/manifests/"+tag, ownKey{repo.name, "tag", tag})
	}
}

// ownDelete deletes a manifest, with the tags that stand for it: here it is gone at
// once.
func (x *operation) ownDelete() {
	repo := x.ownRepo()
	m, ok := repo.someImage(x)
	if !ok {
		return
	}
	x.note = repo.name + "@" + short(m.digest)
	keys := []ownKey{manifestOf(repo.name, m.digest)}
	if !m.subject.IsZero() {
		keys = append(keys, ownKey{repo.name, "referrer", m.subject.String() + " " + m.digest.String()})
	}
	tags := x.world.own.remove(x.node, repo.name, m.digest)
	done := x.ownChange("DELETE of a manifest", "/v2/"+repo.name+"/manifests/"+m.digest.String(), keys...)
	tags()
	if done {
		x.ownRead(http.MethodHead, "/manifests/"+m.digest.String(), manifestOf(repo.name, m.digest), m.digest)
	}
}

// ownUnlink pushes a blob and deletes it.
func (x *operation) ownUnlink() {
	repo, c := x.ownRepo(), x.ownContent()
	if !x.ownBlob(repo, c) {
		return
	}
	repo.mu.Lock()
	repo.gone = append(repo.gone, c)
	repo.mu.Unlock()
	k := blobOf(repo.name, c.Digest)
	x.ownRead(http.MethodHead, "/blobs/"+c.Digest.String(), k, c.Digest)
	if x.ownChange("DELETE of a blob", "/v2/"+repo.name+"/blobs/"+c.Digest.String(), k) {
		x.ownRead(http.MethodHead, "/blobs/"+c.Digest.String(), k, c.Digest)
	}
}

// ownAbandon begins an upload and leaves it, or cancels it.
func (x *operation) ownAbandon() {
	repo := x.ownRepo()
	a := x.ownSend("POST", "POST", "/v2/"+repo.name+"/blobs/uploads/", nil)
	if a.err != nil || a.status != 202 {
		x.excused = true
		return
	}
	at := a.header.Get("Location")
	x.ownSend("PATCH", "PATCH", at, make([]byte, 1+x.r.IntN(3<<10)))
	if x.r.IntN(2) == 0 {
		x.ownSend("cancel", "DELETE", at, nil)
	}
}
