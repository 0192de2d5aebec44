package registryd

import "hostlocal/manifest"

const (
	// maxTourDepth bounds the indexes below each other that a tour looks into.
	maxTourDepth = 3

	// maxTour bounds the descriptors that one tour goes over: a few hundred
	// images, and a tenth of a second. Two indexes of 32,768 entries each that all
	// name the next one are a billion, and somebody waits.
	maxTour = 1 << 17
)

// A tour goes over manifests on this disk and what they list, each once.
type tour struct {
	*Registry
	seen map[manifest.Digest]bool
	left int // descriptors
}

func (g *Registry) tour() *tour {
	return &tour{g, map[manifest.Digest]bool{}, maxTour}
}

// visit returns a manifest that is on this disk, the first time; nil if there is
// nothing to see, or it would be too much.
func (t *tour) visit(d manifest.Digest) *manifest.Manifest {
	if t.seen[d] || t.left <= 0 {
		return nil
	}
	t.seen[d] = true
	if t.left--; !t.disk.Has(d) {
		return nil
	}
	m, err := t.onDisk(d)
	if err != nil {
		return nil
	}
	t.left -= len(m.Layers) + len(m.Manifests)
	return m
}

// whole reports whether an image is complete on this disk: of an index, at least
// one image that it lists.
func (g *Registry) whole(d manifest.Digest) bool { return g.tour().whole(d, maxTourDepth) }

func (t *tour) whole(d manifest.Digest, depth int) bool {
	if depth == 0 {
		return false
	}
	m := t.visit(d)
	if m == nil {
		return false
	}
	for _, c := range m.Manifests {
		if t.whole(c.Digest, depth-1) {
			return true
		}
	}
	if m.IsIndex() {
		return len(m.Manifests) == 0
	}
	for _, c := range children(m) {
		if len(c.URLs) == 0 && !t.disk.Has(c.Digest) {
			return false
		}
	}
	return true
}

// note notes what a manifest names for repo, and those of its children that are
// here. Of one of the bucket's own repositories only what a link on this disk says
// was seen there: an index may name what is not.
func (t *tour) note(repo Repository, d manifest.Digest, depth int) {
	if depth == 0 || repo.Name.IsOwn() && !t.links.HasManifest(repo.String(), d) {
		return
	}
	m := t.visit(d)
	if m == nil {
		return
	}
	t.named.addManifest(repo, m)
	for _, c := range m.Manifests {
		t.note(repo, c.Digest, depth-1)
	}
}
