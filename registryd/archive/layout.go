package archive

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	spec "github.com/opencontainers/image-spec/specs-go/v1"

	"hostlocal/manifest"
)

// containerdName is the annotation in which containerd, and Docker since 25, keep an
// image's whole name; OCI's own has the tag alone then.
const containerdName = "io.containerd.image.name"

// blobFile is where a layout keeps a digest's bytes.
func blobFile(d manifest.Digest) string {
	return spec.ImageBlobsDir + "/" + string(d.Algorithm()) + "/" + d.Hex()
}

// readIndex reads the table of an OCI layout.
func readIndex(t tree) (*manifest.Manifest, error) {
	body, err := readSmall(t, spec.ImageIndexFile)
	if err != nil {
		return nil, err
	}
	m, err := manifest.Parse(body)
	if err != nil || !m.IsIndex() {
		return nil, fmt.Errorf("%w: %s is no image index: %w", ErrArchive, spec.ImageIndexFile, cmp.Or(err, manifest.ErrManifest))
	}
	return m, nil
}

// layoutImages gathers what a layout's table lists: an image for each digest, under
// all its names. What has no name and refers to another manifest goes with the image
// that it refers to.
func layoutImages(t tree, index *manifest.Manifest, docker dockerTable, p *manifest.Platform) []*Image {
	var images []*Image
	var loose []manifest.Descriptor // has no name
	byDigest := map[manifest.Digest]*Image{}
	for _, d := range index.Manifests {
		name, tag := nameOf(d.Annotations)
		if name == "" && tag == "" {
			loose = append(loose, d)
			continue
		}
		img := byDigest[d.Digest]
		if img == nil {
			img = gather(t, d, p)
			byDigest[d.Digest] = img
			images = append(images, img)
		}
		img.addName(name, tag)
	}
	// Some tools list in the table also what an image's index lists.
	within := func(d manifest.Descriptor) bool {
		return slices.ContainsFunc(images, func(i *Image) bool { return i.Root.Digest == d.Digest || i.has(d.Digest) })
	}
	for _, d := range loose {
		if !within(d) && !refers(t, d) {
			images = append(images, gather(t, d, p))
		}
	}
	images = slices.DeleteFunc(images, func(i *Image) bool {
		return len(i.Names)+len(i.Tags) == 0 && slices.ContainsFunc(images, func(o *Image) bool { return o != i && o.has(i.Root.Digest) && o.Root.Digest != i.Root.Digest })
	})
	for _, img := range images {
		if len(img.Names)+len(img.Tags) == 0 {
			img.Names = docker.namesOf(img)
		}
	}
	return attach(t, images, slices.DeleteFunc(loose, within))
}

// nameOf reads a table's annotations: a whole name, or a tag alone.
func nameOf(a map[string]string) (name, tag string) {
	ref := a[spec.AnnotationRefName]
	switch {
	case a[containerdName] != "":
		return a[containerdName], ""
	case strings.ContainsAny(ref, "/:@"):
		return ref, ""
	}
	return "", ref
}

func (i *Image) addName(name, tag string) {
	if name != "" && !slices.Contains(i.Names, name) {
		i.Names = append(i.Names, name)
	}
	if tag != "" && !slices.Contains(i.Tags, tag) {
		i.Tags = append(i.Tags, tag)
	}
}

// refers reports whether d is a manifest about another one.
func refers(t tree, d manifest.Descriptor) bool {
	m, err := readManifest(t, d)
	return err == nil && m.Subject != nil
}

// attach adds what is loose to the images that it refers to, and to what refers to
// them in turn. What refers to nothing here becomes an image without a name.
func attach(t tree, images []*Image, loose []manifest.Descriptor) []*Image {
	for len(loose) > 0 {
		var later []manifest.Descriptor
		for _, d := range loose {
			m, err := readManifest(t, d)
			var to []*Image
			for _, img := range images {
				if err == nil && m.Subject != nil && img.Err == nil && img.has(m.Subject.Digest) {
					to = append(to, img)
				}
			}
			if len(to) == 0 {
				later = append(later, d)
			}
			for _, img := range to {
				g := gathererOf(t, img, nil)
				if err := g.manifest(d, 1, false); err != nil {
					img.Err = fmt.Errorf("%s, which refers to it: %w", d.Digest, err)
				}
			}
		}
		if len(later) == len(loose) {
			for _, d := range later {
				images = append(images, gather(t, d, nil))
			}
			return images
		}
		loose = later
	}
	return images
}

func (i *Image) has(d manifest.Digest) bool {
	return slices.ContainsFunc(i.Manifests, func(m *manifest.Manifest) bool { return m.Digest == d })
}

// readManifest reads and checks what d describes.
func readManifest(t tree, d manifest.Descriptor) (*manifest.Manifest, error) {
	body, err := readSmall(t, blobFile(d.Digest))
	if err != nil {
		return nil, err
	}
	if n := d.Length(); n >= 0 && n != int64(len(body)) {
		return nil, fmt.Errorf("%w: %s has %d bytes, and should have %d", ErrArchive, d.Digest, len(body), n)
	}
	return manifest.ParseAs(d.Digest, body)
}

// A gatherer collects an image's manifests and blobs.
type gatherer struct {
	t        tree
	image    *Image
	platform *manifest.Platform
	seen     map[manifest.Digest]bool
}

func gathererOf(t tree, img *Image, p *manifest.Platform) *gatherer {
	g := &gatherer{t: t, image: img, platform: p, seen: map[manifest.Digest]bool{}}
	for _, m := range img.Manifests {
		g.seen[m.Digest] = true
	}
	for _, b := range img.Blobs {
		g.seen[b.Digest] = true
	}
	return g
}

// gather collects the image that d is the root of.
func gather(t tree, d manifest.Descriptor, p *manifest.Platform) *Image {
	img := &Image{Root: &manifest.Manifest{Digest: d.Digest, MediaType: d.MediaType}}
	g := gathererOf(t, img, p)
	if img.Err = g.manifest(d, 1, false); img.Err != nil {
		return img
	}
	img.Root = img.Manifests[len(img.Manifests)-1]
	if img.Root.IsIndex() && len(img.Root.Manifests) > 0 && !slices.ContainsFunc(img.Manifests, func(m *manifest.Manifest) bool { return !m.IsIndex() }) {
		img.Err = fmt.Errorf("%w: the archive has none of the images that the index lists: %s", fs.ErrNotExist, strings.Join(img.LeftOut, ", "))
	}
	return img
}

// errIncomplete says that an entry of an index is not in the archive, or not its
// layers: docker save leaves out the platforms that the host does not have.
var errIncomplete = errors.New("not in the archive")

// manifest takes in d and what lies below it, before it. What is not there is
// errIncomplete if d may be missing, being an entry of an index.
func (g *gatherer) manifest(d manifest.Descriptor, depth int, mayMiss bool) error {
	switch {
	case g.seen[d.Digest]:
		return nil
	case depth > manifest.DefaultDepth:
		return fmt.Errorf("%w: %s lies %d manifests deep, more than %d", ErrArchive, d.Digest, depth, manifest.DefaultDepth)
	case len(g.image.Manifests) >= manifest.DefaultManifests:
		return fmt.Errorf("%w: more than %d manifests", ErrArchive, manifest.DefaultManifests)
	}
	m, err := readManifest(g.t, d)
	if errors.Is(err, fs.ErrNotExist) {
		if mayMiss {
			return errIncomplete
		}
		return fmt.Errorf("%w: its manifest %s is not in it: %w", ErrArchive, d.Digest, err)
	}
	if err != nil {
		return err
	}
	g.seen[d.Digest] = true // before what lies below, which cannot list it but in a forgery
	if m.IsIndex() {
		err = g.index(m, depth)
	} else {
		err = g.blobs(m, mayMiss)
	}
	if err == nil {
		g.image.Manifests = append(g.image.Manifests, m)
	}
	return err
}

// index takes in the entries that are there. An index may be sparse: the digests of
// the others stay in it, and a host asks their upstream for them.
func (g *gatherer) index(m *manifest.Manifest, depth int) error {
	chosen, err := g.choose(m)
	if err != nil {
		return err
	}
	for _, d := range chosen {
		var err error
		if d.MediaType != "" && !d.IsManifest() {
			_, err = g.blob(d)
		} else {
			err = g.manifest(d, depth+1, true)
		}
		if errors.Is(err, errIncomplete) {
			g.image.LeftOut = append(g.image.LeftOut, describe(d))
		} else if err != nil {
			return err
		}
	}
	return nil
}

// choose returns the entries for the platform that was asked for.
func (g *gatherer) choose(m *manifest.Manifest) ([]manifest.Descriptor, error) {
	if g.platform == nil || len(m.Manifests) == 0 {
		return m.Manifests, nil
	}
	best, ok := g.platform.Best(m.Manifests)
	if !ok {
		if i := slices.IndexFunc(m.Manifests, func(d manifest.Descriptor) bool { return d.Platform == nil }); i >= 0 {
			return m.Manifests, nil // an index of indexes, or of images that do not say
		}
		return nil, fmt.Errorf("%w %s: it has %s", manifest.ErrNoPlatform, g.platform, describeAll(m.Manifests))
	}
	return []manifest.Descriptor{best}, nil
}

// blobs takes in an image's config and layers. An entry of an index may have been
// left without its layers, all of them.
func (g *gatherer) blobs(m *manifest.Manifest, mayMiss bool) error {
	kept := len(g.image.Blobs)
	there, missing := 0, manifest.Descriptor{}
	for i, d := range m.Blobs() {
		ok, err := g.blob(d)
		switch {
		case err != nil && !errors.Is(err, errIncomplete):
			return err
		case err != nil && !d.IsForeign():
			missing = d
		case ok && i > 0:
			there++
		}
	}
	switch {
	case missing.Digest.IsZero():
		return nil
	case mayMiss && there == 0:
		for _, b := range g.image.Blobs[kept:] {
			delete(g.seen, b.Digest)
		}
		g.image.Blobs = g.image.Blobs[:kept]
		delete(g.seen, m.Digest)
		return errIncomplete
	}
	err := fmt.Errorf("%w: %s, of the image %s, is not in it", ErrArchive, missing.Digest, m.Digest)
	if mayMiss {
		err = fmt.Errorf("%w; if other platforms are whole, name one with --platform", err)
	}
	return err
}

// blob takes in a blob, and reports whether the archive has it.
func (g *gatherer) blob(d manifest.Descriptor) (bool, error) {
	if g.seen[d.Digest] {
		return true, nil
	}
	if len(g.seen) > manifest.DefaultCount {
		return false, fmt.Errorf("%w: more than %d blobs", ErrArchive, manifest.DefaultCount)
	}
	file := blobFile(d.Digest)
	size, err := g.t.size(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, errIncomplete
	}
	if err != nil {
		return false, err
	}
	if n := d.Length(); n >= 0 && n != size {
		return false, fmt.Errorf("%w: %s has %d bytes, and should have %d", ErrArchive, d.Digest, size, n)
	}
	g.seen[d.Digest] = true
	g.image.Blobs = append(g.image.Blobs, &Blob{Digest: d.Digest, Size: size, tree: g.t, file: file})
	return true, nil
}

// describe names an entry of an index for a person.
func describe(d manifest.Descriptor) string {
	switch {
	case d.IsAttestation():
		return "an attestation"
	case d.Platform != nil:
		return d.Platform.String()
	}
	return d.Digest.String()
}

func describeAll(list []manifest.Descriptor) string {
	const most = 10
	var words []string
	for _, d := range list {
		if !d.IsAttestation() {
			words = append(words, describe(d))
		}
	}
	if len(words) > most {
		words = append(words[:most], "...")
	}
	return strings.Join(words, ", ")
}
