package registryd

import (
	"context"
	"errors"
	"time"

	"hostlocal/manifest"
)

// Refreshed is what Refresh found.
type Refreshed struct {
	Repository string          `json:"repository"`
	Tag        string          `json:"tag"`
	Before     manifest.Digest `json:"before"` // zero if it was not known
	Now        manifest.Digest `json:"now"`
}

// errNoTag says that an image was named by digest where its tag is wanted.
var errNoTag = errors.New("a digest never changes; name the image by its tag")

// image resolves what a person writes for an image.
func (g *Registry) image(ctx context.Context, s string) (Repository, Ref, error) {
	m, tag, d, err := g.options.Names.ParseImage(s)
	if err != nil {
		return Repository{}, Ref{}, err
	}
	repo, err := g.decided(ctx, m)
	return repo, Ref{Tag: tag, Digest: d}, err
}

// Refresh asks the source of image, a name as a client would write it with a
// tag, what the tag stands for now, whatever its policy. It fails where a pull
// would be served what is known; errors are as those of Manifest, or about the
// name.
func (g *Registry) Refresh(ctx context.Context, image string) (Refreshed, error) {
	repo, ref, err := g.image(ctx, image)
	if err != nil {
		return Refreshed{}, err
	}
	if !ref.Digest.IsZero() {
		return Refreshed{}, errNoTag
	}
	key := tagKey{repo.String(), ref.Tag}
	before := g.tags.get(key)
	f := g.confirmations.join(key, func(ctx context.Context) (resolved, error) {
		return g.confirm(ctx, repo, ref.Tag, Policy{Mode: Always}, false)
	})
	r, err := f.wait(ctx, time.Now().Add(answerLimit))
	if err != nil {
		return Refreshed{}, err
	}
	return Refreshed{Repository: key.repo, Tag: key.tag, Before: before.digest, Now: r.digest}, nil
}

// Evicted is what Evict took from this disk.
type Evicted struct {
	Repository string `json:"repository"`
	Manifests  int    `json:"manifests"`
	Blobs      int    `json:"blobs"`
	Bytes      int64  `json:"bytes"` // as the manifests say
}

// Evict takes an image, its manifests, its blobs and what is known of its tag,
// from this disk; the bucket and the upstream keep theirs. Blobs that other images
// share go too, and come back when those are pulled. An image of which nothing is
// here is no error.
func (g *Registry) Evict(ctx context.Context, image string) (Evicted, error) {
	repo, ref, err := g.image(ctx, image)
	if err != nil {
		return Evicted{}, err
	}
	key := tagKey{repo.String(), ref.Tag}
	root := ref.Digest
	if root.IsZero() {
		root = g.tags.get(key).digest
	}
	e := Evicted{Repository: key.repo}
	if !root.IsZero() {
		err = g.evict(key.repo, manifest.Descriptor{Digest: root}, maxTourDepth, &e)
	}
	if ref.Tag != "" {
		err = errors.Join(err, g.links.RemoveTag(key.repo, key.tag))
		g.tags.forget(key)
	}
	return e, err
}

// evict takes a manifest and all below it from the disk, leaves first, so that
// what is left after a failure is still named.
func (g *Registry) evict(repo string, desc manifest.Descriptor, depth int, e *Evicted) error {
	if !g.disk.Has(desc.Digest) {
		return nil
	}
	m, err := g.onDisk(desc.Digest)
	if err == nil && depth > 0 {
		for _, c := range m.Manifests {
			if err := g.evict(repo, c, depth-1, e); err != nil {
				return err
			}
		}
		for _, c := range children(m) {
			if !g.disk.Has(c.Digest) {
				continue
			}
			if err := g.drop(repo, c.Digest); err != nil {
				return err
			}
			e.Blobs++
			e.Bytes += c.Size
		}
	}
	if m != nil {
		e.Bytes += int64(len(m.Body))
	}
	e.Manifests++
	return g.drop(repo, desc.Digest)
}

// drop takes one digest from the disk and from what is known of repo.
func (g *Registry) drop(repo string, d manifest.Digest) error {
	g.parsed.Remove(d)
	g.named.forget(repo, d)
	g.linked.Remove(content{repo, d})
	return errors.Join(g.disk.Remove(d), g.links.UnlinkManifest(repo, d), g.links.UnlinkLayer(repo, d))
}

// Explanation is what a name means here and why, and what is known of it.
type Explanation struct {
	Name       string          `json:"name"`
	Repository string          `json:"repository"` // as it lies in the bucket and on the disk
	Upstream   string          `json:"upstream"`   // empty: one of the bucket's own
	Path       string          `json:"path"`       // as the upstream knows it
	Why        string          `json:"why"`
	Tag        string          `json:"tag,omitempty"`
	Policy     string          `json:"policy,omitempty"`
	Digest     manifest.Digest `json:"digest"`             // what the tag stands for, zero if not known here
	Confirmed  time.Time       `json:"confirmed,omitzero"` // when the source last said so, zero: never
	OnDisk     bool            `json:"onDisk"`             // its manifest is complete on this disk
	Whole      bool            `json:"whole"`              // all of it is, for one platform at least
}

// Explain says what a name means, for a person. It asks the bucket about a bare
// name, and nobody about the tag.
func (g *Registry) Explain(ctx context.Context, name string) (Explanation, error) {
	repo, ref, err := g.image(ctx, name)
	if err != nil {
		return Explanation{}, err
	}
	e := Explanation{
		Name: name, Repository: repo.String(), Upstream: repo.Name.Host, Path: repo.Name.Path,
		Why: repo.Why, Tag: ref.Tag, Digest: ref.Digest,
	}
	if ref.Digest.IsZero() {
		p, k := g.policies.of(repo, ref.Tag), g.tags.get(tagKey{repo.String(), ref.Tag})
		e.Policy, e.Digest, e.Confirmed = p.String(), k.digest, k.confirmed
	}
	if !e.Digest.IsZero() {
		e.OnDisk, e.Whole = g.disk.Has(e.Digest), g.whole(e.Digest)
	}
	return e, nil
}
