package registryd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"hostlocal/manifest"
)

// maxScannedTags bounds the tags of a repository whose manifests are read in
// search of a digest.
const maxScannedTags = 256

// evidence is who can testify that a repository has a digest, beside the
// manifests on this disk.
type evidence struct {
	layer bool // it is about a blob
	link  func(repo string, d manifest.Digest) bool
	// bucket also says when a blob's bytes were there, zero if that is not known.
	bucket   func(context.Context, Repository, manifest.Digest) (stored time.Time, err error)
	upstream func(context.Context, Repository, manifest.Digest) error
}

func (g *Registry) ofManifest() evidence {
	return evidence{false, g.links.HasManifest, g.bucketManifest, g.upstreamHasManifest}
}

func (g *Registry) ofBlob() evidence {
	return evidence{true, g.links.HasLayer, g.bucketLayer, g.upstreamHasBlob}
}

// prove returns nil if d may be served under repo: a manifest on this disk names
// it there, or a link here remembers that it was proven, or the bucket has a link,
// or the upstream gives it there. What is on this disk because another repository
// has it is not served to those who may not see that one.
//
// An error wraps fs.ErrNotExist or fs.ErrPermission as the upstream said, or is
// an outage if nobody could be asked who might have known.
func (g *Registry) prove(ctx context.Context, repo Repository, d manifest.Digest, e evidence) error {
	if repo.Name.IsOwn() && g.bucket != nil {
		return g.proveOwn(ctx, repo, d, e)
	}
	if g.provenHere(ctx, repo.String(), d, e) {
		return nil
	}
	var err error
	switch o := g.origins[repo.Name.Host]; {
	case o == nil:
		err = fmt.Errorf("nothing names it there: %w", fs.ErrNotExist)
	case g.bucket == nil:
		err = e.upstream(ctx, repo, d)
	default:
		_, err = staggered(ctx, g.bg, g.bucket.store.Patience(),
			func(ctx context.Context) (none struct{}, err error) {
				_, err = e.bucket(ctx, repo, d)
				return none, err
			},
			func(ctx context.Context) (struct{}, error) { return struct{}{}, e.upstream(ctx, repo, d) })
	}
	if err == nil {
		g.named.add(repo.String(), d, -1)
	}
	return err
}

// provenHere is prove without a network.
func (g *Registry) provenHere(ctx context.Context, repo string, d manifest.Digest, e evidence) bool {
	if g.named.proven(repo, d) {
		return true
	}
	if e.link(repo, d) {
		g.named.add(repo, d, -1)
	} else {
		g.scan(ctx, repo)
	}
	return g.named.proven(repo, d) // a link may be of what was deleted a moment ago
}

// scan notes what the manifests on this disk name that the tags of repo stand
// for, once a repository and process: all that come later are noted as they come.
func (g *Registry) scan(ctx context.Context, repo string) {
	if g.scanned.Contains(repo) {
		return
	}
	f := g.scans.join(repo, func(context.Context) (struct{}, error) {
		if !g.scanned.Contains(repo) {
			g.readTags(g.repository(repo))
			g.scanned.Add(repo, struct{}{})
		}
		return struct{}{}, nil
	})
	_, _ = f.wait(ctx, time.Now().Add(answerLimit)) // whoever cannot wait asks elsewhere
}

// readTags notes what the manifests name that the tags of repo stand for.
func (g *Registry) readTags(repo Repository) {
	name := repo.String()
	tags, err := g.links.Tags(name)
	if err != nil {
		return
	}
	t := g.tour()
	for _, tag := range tags[:min(len(tags), maxScannedTags)] {
		l, err := g.links.Tag(name, tag)
		if err != nil {
			continue
		}
		t.note(repo, l.Digest, maxTourDepth)
	}
}

func (g *Registry) bucketManifest(ctx context.Context, repo Repository, d manifest.Digest) (time.Time, error) {
	ok, err := g.bucket.hasManifest(ctx, repo.String(), d)
	if err == nil && !ok {
		err = fmt.Errorf("the bucket has no link: %w", fs.ErrNotExist)
	}
	return time.Time{}, err
}

// bucketLayer takes a link for a word on the bytes at the time when it was written:
// all who write one have seen them before, or brought them.
func (g *Registry) bucketLayer(ctx context.Context, repo Repository, d manifest.Digest) (time.Time, error) {
	asked := time.Now()
	age, err := g.bucket.layerLink(ctx, repo.String(), d)
	if err != nil || age < 0 {
		return time.Time{}, err
	}
	return asked.Add(-age), nil
}

func (g *Registry) bucketHasLayer(ctx context.Context, repo Repository, d manifest.Digest) error {
	_, err := g.bucketLayer(ctx, repo, d)
	return err
}

func (g *Registry) upstreamHasManifest(ctx context.Context, repo Repository, d manifest.Digest) error {
	_, err := g.origins[repo.Name.Host].head(ctx, repo.Name.Path, d.String())
	return err
}

func (g *Registry) upstreamHasBlob(ctx context.Context, repo Repository, d manifest.Digest) error {
	_, err := g.origins[repo.Name.Host].probe(ctx, repo.Name.Path, d)
	return err
}

// proveBlob is prove for a blob, once for all who ask at once.
func (g *Registry) proveBlob(ctx context.Context, repo Repository, d manifest.Digest, until time.Time) error {
	if _, ok := g.proven(&repo, d); ok {
		return nil
	}
	if repo.Name.IsOwn() && g.bucket != nil {
		return g.proveOwn(ctx, repo, d, g.ofBlob()) // a flight of its own
	}
	f := g.proofs.join(content{repo.String(), d}, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, g.prove(ctx, repo, d, g.ofBlob())
	})
	_, err := f.wait(ctx, until)
	return err
}

// proveCheaply is proveBlob without the upstream, where there is one, and asks
// the bucket no longer than its patience: the fill from the upstream is a proof
// too.
func (g *Registry) proveCheaply(ctx context.Context, repo Repository, d manifest.Digest, until time.Time) error {
	if g.origins[repo.Name.Host] == nil {
		return g.proveBlob(ctx, repo, d, until)
	}
	f := g.cheapProofs.join(content{repo.String(), d}, func(ctx context.Context) (struct{}, error) {
		var none struct{}
		if g.provenHere(ctx, repo.String(), d, g.ofBlob()) {
			return none, nil
		}
		if g.bucket == nil {
			return none, fs.ErrNotExist
		}
		ctx, cancel := context.WithTimeout(ctx, g.bucket.store.Patience())
		defer cancel()
		err := g.bucketHasLayer(ctx, repo, d)
		if err == nil {
			g.named.add(repo.String(), d, -1)
		}
		return none, err
	})
	_, err := f.wait(ctx, until)
	return err
}

// linkLayer remembers on disk that repo has d.
//
//go:noinline
func (g *Registry) linkLayer(repo string, d manifest.Digest) {
	if m, err := g.options.Names.Resolve(repo, ""); err == nil && (m.Undecided || m.Name.IsOwn()) {
		g.owners.Add(d, repo)
	}
	if err := g.links.LinkLayer(repo, d); err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.log.Warn("layer not linked on disk", "repository", repo, "digest", d, "err", err)
	}
}
