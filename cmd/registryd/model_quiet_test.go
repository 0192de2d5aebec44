package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

const (
	// storedWithin is how soon after a pull the bucket has all of it. Two seconds
	// are promised; a busy machine gets more.
	storedWithin = 10 * time.Second

	// quietPulls is how many tags each daemon is asked for at a quiet point.
	quietPulls = 5
)

// quiet looks at everything while nobody does anything: the folders, with the
// daemons up, down, and up again; the bucket; and what a pull is then.
func (w *world) quiet() {
	w.calm()
	for _, n := range w.nodes {
		n.wantWithinBudget()
		n.end(n.apart && rand.IntN(2) == 0)
		n.wantRightFiles()
	}
	w.wantRightBucket()
	w.wantRightOwn()
	for _, n := range w.nodes {
		if w.ok() {
			n.start()
		}
	}
	for _, n := range w.nodes {
		x := &operation{world: w, node: n, r: rand.New(rand.NewPCG(w.seed, 1<<41)), i: -1, name: "quiet pull", begun: time.Now()}
		for range quietPulls {
			if w.ok() {
				x.pullQuietly()
			}
		}
		x.done()
	}
	if w.ok() {
		w.wantShared()
	}
	for _, n := range w.nodes {
		n.wantWithinBudget()
	}
}

// pullQuietly pulls what a tag stands for now: with all sources well there is no
// excuse, no old answer, and the bucket has it soon.
func (x *operation) pullQuietly() {
	w := x.world
	repo, tag := w.truth.drawRepo(x.r), w.truth.drawTag(x.r)
	want := w.truth.now(repo, tag)
	if want.IsZero() {
		return
	}
	d, ok := x.wantFresh(repo, tag, want)
	if !ok {
		return
	}
	if x.node.apart || w.refused.Load() {
		// What the bucket still lacks is written down a second later: a kill before
		// that leaves it to the next one who gets the image from the upstream. So does
		// a bucket that refused to be written: nothing is kept for it.
		if status, body, err := x.node.order("evict", repo.name+"@"+d.String()); err != nil || status >= 300 {
			w.found("%s: evict: %d %s %v", x, status, body, err)
		}
	}
	if !x.pull(repo, d.String()) {
		w.found("%s: %s:%s cannot be pulled, with everything in order", x, repo.name, tag)
		return
	}
	// Not the tag: this daemon may have given the bucket this digest long ago, and
	// the other one another digest since. What is new is looked at by wantShared.
	w.wantStored(repo, "", d, x)
}

// wantFresh resolves a tag, without a warning.
func (x *operation) wantFresh(repo *modelRepo, tag string, want manifest.Digest) (manifest.Digest, bool) {
	w := x.world
	var p *reply
	// A back-off may still last, for as long as the upstream wanted (1 s).
	for end := time.Now().Add(4*time.Second + w.noise.late()); time.Now().Before(end); time.Sleep(modelTTL) {
		var ok bool
		p, ok = x.get(&request{repo: repo, method: http.MethodHead, path: "/manifests/" + tag, tag: tag, abort: -1})
		if !w.ok() {
			return manifest.Digest{}, false
		}
		if ok && p.Header.Get("Docker-Content-Digest") == want.String() && p.Header.Get("Warning") == "" {
			return want, true
		}
	}
	w.found("%s: %s:%s stands for %s, and with everything in order the answer stays: %v", x, repo.name, tag, want, p)
	return manifest.Digest{}, false
}

// wantShared has one daemon pull what is new, and then, with the upstream gone,
// the other one: the bucket is enough.
func (w *world) wantShared() {
	r := rand.New(rand.NewPCG(w.seed, uint64(len(w.truth.repos[0].order))))
	repo, img := w.push(r)
	at := r.Perm(len(w.nodes))
	first, second := w.nodes[at[0]], w.nodes[at[1]]
	x := &operation{world: w, node: first, r: r, i: -1, name: "new pull", begun: time.Now()}
	if _, ok := x.wantFresh(repo, img.Tag, img.Digest); !ok {
		return
	}
	if !x.pull(repo, img.Tag) {
		w.found("%s: %s:%s cannot be pulled, with everything in order", x, repo.name, img.Tag)
		return
	}
	w.wantStored(repo, img.Tag, img.Digest, x)
	if !w.ok() {
		return
	}
	w.bucketHealth.heal(-time.Hour) // it has been left in peace, by daemons that never saw it otherwise
	w.hubHealth.ail()
	w.hub.Down()
	y := &operation{world: w, node: second, r: r, i: -1, name: "pull from the bucket", begun: time.Now()}
	if !y.pull(repo, img.Digest.String()) {
		w.found("%s: %s@%s cannot be pulled from the bucket alone", y, repo.name, img.Digest)
	}
	w.hub.Heal()
	w.hubHealth.heal(hubGrace)
	x.done()
	y.done()
}

// wantStored waits until the bucket has all that a pull of the image fetches, and
// the tag unless it is empty.
func (w *world) wantStored(repo *modelRepo, tag string, d manifest.Digest, x *operation) {
	img, _ := w.truth.image(repo, d)
	var lacks string
	for end := time.Now().Add(storedWithin + w.noise.late()); time.Now().Before(end) && w.ok(); time.Sleep(5 * time.Millisecond) {
		if lacks = w.lacks(repo, img); lacks == "" {
			got, _ := w.s3.Get(tagKey("docker.io/"+repo.name, tag))
			if tag == "" || string(got) == d.String() {
				return
			}
			lacks = fmt.Sprintf("tag %s = %s (it says %q)", tag, d, got)
		}
	}
	status, body, err := x.node.status()
	w.found("%s: %v after the pull the bucket still lacks %s; the daemon's status: %d %s %v", x, storedWithin, lacks, status, body, err)
}

// image finds the image that a digest names.
func (t *chronicle) image(repo *modelRepo, d manifest.Digest) (hubtest.Image, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, img := range repo.images {
		if img.Digest == d {
			return img, true
		}
	}
	return hubtest.Image{}, false
}

// lacks names something of the image that the bucket has not got.
func (w *world) lacks(repo *modelRepo, img hubtest.Image) string {
	all := []manifest.Digest{img.Digest}
	if !img.Config.Digest.IsZero() {
		all = append(all, img.Config.Digest)
	}
	for _, l := range img.Layers {
		all = append(all, l.Digest)
	}
	for _, d := range all {
		if !w.stored(repo, d) {
			o, _ := w.truth.object(repo, d)
			return fmt.Sprintf("%s %s (%d bytes)", d, o.mediaType, o.Size)
		}
	}
	for _, i := range img.Images {
		if s := w.lacks(repo, i); s != "" {
			return s
		}
	}
	return ""
}

// wantWithinBudget checks what the cache's folder takes, as du counts.
func (n *node) wantWithinBudget() {
	var sum int64
	filepath.WalkDir(n.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if fi, err := e.Info(); err == nil {
			sum += fi.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	n.mu.Lock()
	strange := n.strange
	n.mu.Unlock()
	if sum > modelBudget+strange {
		n.w.found("the folder of %s takes %d bytes, the budget is %d (and %d were put there behind its back)", n.name, sum, modelBudget, strange)
	}
}

// wantRightFiles checks every complete blob on the disk of a daemon that is down.
func (n *node) wantRightFiles() {
	for _, path := range n.files() {
		b, err := os.ReadFile(path)
		check(n.w, err)
		fi, err := os.Stat(path)
		check(n.w, err)
		if n.untouched(path, fi) {
			continue
		}
		if got := manifest.DigestOf(b); got.Hex() != filepath.Base(path) {
			n.w.found("%s has %d bytes under %s that are %s", n.name, len(b), filepath.Base(path), got)
		}
	}
}

// wantRightBucket checks every object: a blob's digest, a link's target, and that
// no tag is there before its manifest.
func (w *world) wantRightBucket() {
	const root = "docker/registry/v2/"
	for _, key := range w.s3.Keys() {
		b, ok := w.s3.Get(key)
		switch {
		case !ok:
		case strings.HasPrefix(key, root+"blobs/") && strings.HasSuffix(key, "/data"):
			hex := strings.Split(key, "/")[6]
			if got := manifest.DigestOf(b); got.Hex() != hex {
				w.found("the bucket has %d bytes under %s that are %s", len(b), hex, got)
			}
		case strings.HasSuffix(key, "/link"):
			w.wantRightLink(key, bytes.TrimSpace(b))
		}
	}
}

func (w *world) wantRightLink(key string, b []byte) {
	d, err := manifest.ParseDigest(string(b))
	if err != nil {
		w.found("%s in the bucket says %q", key, b)
		return
	}
	key, mirrored := strings.CutPrefix(key, "docker/registry/v2/repositories/docker.io/")
	if !mirrored {
		return // looked at by wantRightOwn
	}
	repo, what, _ := strings.Cut(key, "/_")
	switch p := w.truth.repo(repo); {
	case p == nil:
		w.found("%s is in the bucket, and nobody has such a repository", key)
	default:
		if _, ok := w.truth.object(p, d); !ok {
			w.found("%s in the bucket names %s, which the repository never had", key, d)
		}
		if strings.HasPrefix(what, "manifests/tags/") && !w.stored(p, d) {
			w.found("%s in the bucket names %s, whose manifest is not there", key, d)
		}
	}
}

func (t *chronicle) repo(name string) *modelRepo {
	for _, p := range t.repos {
		if p.name == name {
			return p
		}
	}
	return nil
}
