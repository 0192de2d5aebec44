package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

// A chronicle is what the upstream has and had.
type chronicle struct {
	hub *hubtest.Hub

	mu    sync.Mutex // guards what follows, and the order of changes at the upstream
	repos []*modelRepo
	made  uint64 // layers
}

// A modelRepo is one repository of the upstream.
type modelRepo struct {
	name    string
	images  []hubtest.Image
	objects map[manifest.Digest]object
	order   []manifest.Digest // of objects, to draw from
	tags    map[string][]stand
	names   []string // of tags that ever were
	forbids []period
}

// An object is a manifest or a blob.
type object struct {
	hubtest.Content
	mediaType string // of a manifest; "" for a blob
}

// A stand is what a tag stood for at a time; the zero Digest if it did not exist.
// The times lie around the change at the upstream.
type stand struct {
	digest manifest.Digest
	period
}

// A period is a time from before its begin to after its end, which is zero as long
// as it lasts.
type period struct{ from, until time.Time }

func (s period) meets(from, until time.Time) bool {
	return !s.from.After(until) && (s.until.IsZero() || !s.until.Before(from))
}

const (
	modelRepos = 3
	modelTags  = 5 // in each repository
)

func newChronicle(w *world) *chronicle {
	t := &chronicle{hub: w.hub}
	for i := range modelRepos {
		t.repos = append(t.repos, &modelRepo{name: fmt.Sprintf("library/app%d", i),
			objects: map[manifest.Digest]object{}, tags: map[string][]stand{}})
	}
	return t
}

// layerSizes are drawn from: small ones are kept in memory by the daemon, middle
// ones are waited for whole, large ones stream.
func layerSize(r *rand.Rand) int64 {
	switch x := r.IntN(100); {
	case x < 45:
		return 1<<10 + r.Int64N(60<<10)
	case x < 80:
		return 64<<10 + r.Int64N(448<<10)
	case x < 99:
		return 512<<10 + r.Int64N(2560<<10)
	default:
		return 9 << 20 // in parts to the bucket
	}
}

// push puts a new image under a tag, as a CI does. It returns the image as it was
// put.
func (w *world) push(r *rand.Rand) (*modelRepo, hubtest.Image) {
	t := w.truth
	t.mu.Lock()
	defer t.mu.Unlock()
	repo := t.repos[r.IntN(len(t.repos))]
	tag := fmt.Sprintf("v%d", r.IntN(modelTags))
	var layers []hubtest.Content
	for range 1 + r.IntN(4) {
		if old := repo.blobs(); len(old) > 0 && r.IntN(4) == 0 {
			layers = append(layers, repo.objects[old[r.IntN(len(old))]].Content)
			continue
		}
		t.made++
		layers = append(layers, hubtest.Generated(w.seed<<20+t.made, layerSize(r)))
	}
	from := time.Now()
	var img hubtest.Image
	switch r.IntN(3) {
	case 0:
		img = t.hub.AddImage(repo.name, tag, layers...)
	case 1:
		img = t.hub.AddDocker(repo.name, tag, layers...)
	default:
		img = t.hub.AddIndex(repo.name, tag, []manifest.Platform{{OS: "linux", Architecture: "amd64"}}, layers...)
	}
	repo.stands(tag, img.Digest, from)
	repo.images = append(repo.images, img)
	repo.add(img)
	return repo, img
}

// add notes an image's objects.
func (p *modelRepo) add(img hubtest.Image) {
	note := func(c hubtest.Content, mediaType string) {
		if _, ok := p.objects[c.Digest]; !ok {
			p.objects[c.Digest] = object{c, mediaType}
			p.order = append(p.order, c.Digest)
		}
	}
	note(hubtest.Literal(img.Body), img.MediaType)
	if !img.Config.Digest.IsZero() {
		note(img.Config, "")
	}
	for _, l := range img.Layers {
		note(l, "")
	}
	for _, i := range append(img.Images, img.Attests...) {
		p.add(i)
	}
}

// blobs are the layers to share; the first ones, so that some become common.
func (p *modelRepo) blobs() (list []manifest.Digest) {
	for _, d := range p.order[:min(len(p.order), 30)] {
		if p.objects[d].mediaType == "" {
			list = append(list, d)
		}
	}
	return list
}

// stands notes that tag stands for d from now on, after the upstream was changed;
// from is a time before that.
func (p *modelRepo) stands(tag string, d manifest.Digest, from time.Time) {
	list := p.tags[tag]
	if list == nil {
		p.names = append(p.names, tag)
		list = []stand{{period: period{until: time.Now()}}} // it did not exist before
	} else {
		list[len(list)-1].until = time.Now()
	}
	p.tags[tag] = append(list, stand{d, period{from: from}})
}

// retag moves a tag to an older image, or deletes it.
func (t *chronicle) retag(r *rand.Rand, away bool) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	repo := t.repos[r.IntN(len(t.repos))]
	if len(repo.names) == 0 {
		return "nothing there"
	}
	tag, from := repo.names[r.IntN(len(repo.names))], time.Now()
	if away {
		t.hub.DeleteTag(repo.name, tag)
		repo.stands(tag, manifest.Digest{}, from)
		return fmt.Sprintf("%s:%s away", repo.name, tag)
	}
	img := repo.images[r.IntN(len(repo.images))]
	t.hub.MoveTag(repo.name, tag, img.Digest)
	repo.stands(tag, img.Digest, from)
	return fmt.Sprintf("%s:%s -> %s", repo.name, tag, short(img.Digest))
}

// forbid answers everything in a repository with 403, until the returned function
// is called.
func (t *chronicle) forbid(repo *modelRepo) (allow func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(repo.forbids); n > 0 && repo.forbids[n-1].until.IsZero() {
		return func() {}
	}
	repo.forbids = append(repo.forbids, period{from: time.Now()})
	t.hub.Forbid(repo.name)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.allow(repo)
	}
}

// allow wants the lock.
func (t *chronicle) allow(repo *modelRepo) {
	if n := len(repo.forbids); n > 0 && repo.forbids[n-1].until.IsZero() {
		t.hub.Allow(repo.name)
		repo.forbids[n-1].until = time.Now()
	}
}

func (t *chronicle) allowAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, repo := range t.repos {
		t.allow(repo)
	}
}

// forbidden reports whether the repository was, at some time in the span.
func (t *chronicle) forbidden(repo *modelRepo, from, until time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(repo.forbids, func(s period) bool { return s.meets(from, until) })
}

// stood reports whether the tag stood for d at some time in the span; the zero
// Digest asks whether it did not exist.
func (t *chronicle) stood(repo *modelRepo, tag string, d manifest.Digest, from, until time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := repo.tags[tag]
	if list == nil {
		return d.IsZero()
	}
	return slices.ContainsFunc(list, func(s stand) bool { return s.digest == d && s.meets(from, until) })
}

// now is what the tag stands for.
func (t *chronicle) now(repo *modelRepo, tag string) manifest.Digest {
	t.mu.Lock()
	defer t.mu.Unlock()
	if list := repo.tags[tag]; list != nil {
		return list[len(list)-1].digest
	}
	return manifest.Digest{}
}

// object is what the digest names in the repository.
func (t *chronicle) object(repo *modelRepo, d manifest.Digest) (object, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o, ok := repo.objects[d]
	return o, ok
}

// drawRepo returns a repository that has something.
func (t *chronicle) drawRepo(r *rand.Rand) *modelRepo {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		if repo := t.repos[r.IntN(len(t.repos))]; len(repo.order) > 0 {
			return repo
		}
	}
}

// drawTag returns a tag of the repository that was, or could have been.
func (t *chronicle) drawTag(r *rand.Rand) string { return fmt.Sprintf("v%d", r.IntN(modelTags)) }

// drawImage returns one of the images, more often a new one.
func (t *chronicle) drawImage(r *rand.Rand, repo *modelRepo) hubtest.Image {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(repo.images)
	return repo.images[max(r.IntN(n), r.IntN(n))]
}

// drawObject returns an object of the repository that is, or is not, a blob.
func (t *chronicle) drawObject(r *rand.Rand, repo *modelRepo, blob bool) object {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		n := len(repo.order)
		o := repo.objects[repo.order[max(r.IntN(n), r.IntN(n))]]
		if (o.mediaType == "") == blob {
			return o
		}
	}
}

// short is a digest for a person.
func short(d manifest.Digest) string {
	if d.IsZero() {
		return "-"
	}
	return d.Hex()[:8]
}

// allowed reports whether the repository was not forbidden, at some time in the
// span.
func (t *chronicle) allowed(repo *modelRepo, from, until time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !slices.ContainsFunc(repo.forbids, func(s period) bool {
		return !s.from.After(from) && (s.until.IsZero() || s.until.After(until))
	})
}

// listed checks a list of the repository's tags that was asked for in the span.
func (t *chronicle) listed(repo *modelRepo, got []string, from, until time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tag := range repo.names {
		var some, gap bool
		for _, s := range repo.tags[tag] {
			if s.meets(from, until) {
				some = some || !s.digest.IsZero()
				gap = gap || s.digest.IsZero()
			}
		}
		switch in := slices.Contains(got, tag); {
		case in && !some:
			return fmt.Errorf("%s is listed and was not there", tag)
		case !in && !gap:
			return fmt.Errorf("%s is not listed and was there", tag)
		}
	}
	for _, tag := range got {
		if repo.tags[tag] == nil {
			return fmt.Errorf("%s is listed and never was", tag)
		}
	}
	return nil
}
