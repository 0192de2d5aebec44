package manifest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// ErrWalk is wrapped by the errors of a Walk that met more than it may.
var ErrWalk = errors.New("image too large to walk")

// ErrNoPlatform is wrapped by the error of a Walk over an index that has nothing
// for any of the platforms.
var ErrNoPlatform = errors.New("no image for the platform")

// WalkOptions bound a Walk. The zero value means all platforms without their
// attestations, within the default bounds.
type WalkOptions struct {
	// Platforms are the hosts' that the image is for; of each index the best
	// entry for each. None means every entry.
	Platforms []Platform

	// Attestations has them walked too, with the images that they are about,
	// whatever the platforms.
	Attestations bool

	MaxDepth     int // of manifests below each other; 0 means DefaultDepth
	MaxManifests int // that are got; 0 means DefaultManifests
	MaxCount     int // of descriptors visited; 0 means DefaultCount
}

const (
	// DefaultDepth admits an index of indexes of images, which is the deepest
	// that tools write, and one more.
	DefaultDepth = 4

	// DefaultManifests bounds what is fetched for one name: with MaxSize each
	// it is the network traffic that a hostile index can cause. Official images
	// have up to 40, attestations included.
	DefaultManifests = 1000

	// DefaultCount bounds the memory of a walk, some 150 bytes a descriptor.
	// Engines refuse images of more than some 127 layers; model artifacts have
	// thousands of them.
	DefaultCount = 50_000
)

// Walk visits the graph of an image from root on: each manifest after get
// returned it and before what it lists, each config and layer with a nil Manifest,
// nothing twice. Foreign layers are visited, and IsForeign tells; entries of an
// index that are neither manifest nor index are visited as blobs, which is how
// engines fetch them. Subjects are not followed.
//
// get returns the manifest that has the descriptor's digest (ParseAs checks). An
// error of get or visit ends the walk and is returned, but fs.SkipDir from visit
// only leaves out what the manifest lists. An index within which nothing is for
// any of the platforms is an error that wraps ErrNoPlatform; a root that is an
// image itself is walked whatever it was built for.
func Walk(ctx context.Context, root Descriptor, get func(context.Context, Descriptor) (*Manifest, error), visit func(Descriptor, *Manifest) error, o WalkOptions) error {
	w := &walk{ctx: ctx, get: get, visit: visit, o: o, seen: map[Digest]bool{root.Digest: true}}
	w.o.MaxDepth = orDefault(o.MaxDepth, DefaultDepth)
	w.o.MaxManifests = orDefault(o.MaxManifests, DefaultManifests)
	w.o.MaxCount = orDefault(o.MaxCount, DefaultCount)
	if err := w.manifest(root, 1); err != nil {
		return err
	}
	if w.missed != nil && !w.image {
		return fmt.Errorf("%w %s: %s", ErrNoPlatform, platformList(o.Platforms), w.missed)
	}
	return nil
}

func orDefault(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

// walk is one call of Walk.
type walk struct {
	ctx   context.Context
	get   func(context.Context, Descriptor) (*Manifest, error)
	visit func(Descriptor, *Manifest) error
	o     WalkOptions

	seen      map[Digest]bool
	manifests int
	image     bool  // an image was visited
	missed    error // what an index had instead of the platforms
}

// manifest gets d and visits it and what it lists. Depth counts from 1.
func (w *walk) manifest(d Descriptor, depth int) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if depth > w.o.MaxDepth {
		return fmt.Errorf("%w: %s lies %d manifests deep, more than %d", ErrWalk, d.Digest, depth, w.o.MaxDepth)
	}
	if w.manifests++; w.manifests > w.o.MaxManifests {
		return fmt.Errorf("%w: more than %d manifests", ErrWalk, w.o.MaxManifests)
	}
	m, err := w.get(w.ctx, d)
	if err != nil {
		return err
	}
	if m.Digest != d.Digest {
		return fmt.Errorf("%w: asked for %s, got %s", ErrMismatch, d.Digest, m.Digest)
	}
	if err := w.visit(d, m); errors.Is(err, fs.SkipDir) {
		w.image = true
		return nil
	} else if err != nil {
		return err
	}
	if m.IsIndex() {
		return w.index(m, depth)
	}
	w.image = w.image || !d.IsAttestation()
	for _, b := range m.Blobs() {
		if err := w.blob(b); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) index(m *Manifest, depth int) error {
	for _, d := range w.choose(m) {
		var err error
		switch {
		case d.MediaType != "" && !d.IsManifest():
			err = w.blob(d)
		case w.first(d):
			err = w.manifest(d, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) blob(d Descriptor) error {
	if !w.first(d) {
		return nil
	}
	if len(w.seen) > w.o.MaxCount {
		return fmt.Errorf("%w: more than %d descriptors", ErrWalk, w.o.MaxCount)
	}
	return w.visit(d, nil)
}

// first reports whether d is new, and takes note of it.
func (w *walk) first(d Descriptor) bool {
	if w.seen[d.Digest] {
		return false
	}
	w.seen[d.Digest] = true
	return true
}

// choose returns the entries of an index that are to be walked.
func (w *walk) choose(index *Manifest) []Descriptor {
	var list, unlabelled []Descriptor
	var has []Platform
	for _, d := range index.Children() {
		switch {
		case d.IsAttestation():
			if w.o.Attestations {
				list = append(list, d)
			}
		case len(w.o.Platforms) == 0:
			list = append(list, d)
		case d.Platform == nil:
			unlabelled = append(unlabelled, d)
		default:
			has = append(has, *d.Platform)
		}
	}
	for _, p := range w.o.Platforms {
		if d, ok := p.Best(index.Children()); ok {
			list = append(list, d)
			continue
		}
		// What states no platform may be for any: an index below this one, or
		// an image whose config alone says.
		list = append(list, unlabelled...)
		if len(unlabelled) == 0 {
			w.missed = fmt.Errorf("%s has %s", index.Digest, platformList(has))
		}
	}
	return list
}

// platformList writes platforms for a message, the first ten of them.
func platformList(list []Platform) string {
	const most = 10
	s := ""
	for i, p := range list {
		if i == most {
			return s + ", ..."
		}
		if i > 0 {
			s += ", "
		}
		s += p.String()
	}
	if s == "" {
		return "none"
	}
	return s
}
