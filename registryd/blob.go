package registryd

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"hostlocal/blobcache"
	"hostlocal/manifest"
)

// Blob returns a hold on the blob, which the caller closes; off is the first byte
// that is going to be read, and ranged says that the client asks for a range: one
// that does asks for others soon. Errors are as those of Manifest.
//
// A warm blob costs one look into memory and the opening of its file. A cold one
// that no manifest named here yet is got from the upstream in a fill that is its
// own proof; only who joins a fill that another repository started has to be
// asked for apart.
func (g *Registry) Blob(ctx context.Context, repo Repository, d manifest.Digest, off int64, ranged bool) (*blobcache.Blob, error) {
	b, err := g.blobOf(ctx, repo, d, off, ranged)
	if err != nil {
		return g.blobAgain(ctx, &repo, d, off, ranged, err)
	}
	return b, nil
}

// blobAgain is Blob of what repo has become, if it has; else it returns err.
//
//go:noinline
func (g *Registry) blobAgain(ctx context.Context, repo *Repository, d manifest.Digest, off int64, ranged bool, err error) (*blobcache.Blob, error) {
	if own, ok := g.becameOwn(ctx, *repo, err); ok {
		return g.blobOf(ctx, own, d, off, ranged)
	}
	return nil, err
}

// blobOf is Blob of what repo is known to be.
func (g *Registry) blobOf(ctx context.Context, repo Repository, d manifest.Digest, off int64, ranged bool) (*blobcache.Blob, error) {
	name := repo.String()
	size, proven := g.proven(&repo, d)
	open := g.guard.open(repo.Name.Host, d)
	if proven && open {
		if h, err := g.disk.Open(d); err == nil {
			g.owed.servedBlob(name, d, size)
			return h, nil
		}
	}
	h, err := g.coldBlob(ctx, &repo, d, off, ranged)
	if err != nil {
		return nil, fmt.Errorf("blob %s of %s: %w", d, name, err)
	}
	if open {
		if h.Source() != SourceDisk {
			g.claim(repo.Name.Host, d)
		}
		g.owed.servedBlob(name, d, size)
	}
	g.served(name, d)
	return h, nil
}

// coldBlob is blobOf for a blob that is not known to be here, or not to be repo's. Its
// part of the stack is large, and given back before links are written.
//
//go:noinline
func (g *Registry) coldBlob(ctx context.Context, repo *Repository, d manifest.Digest, off int64, ranged bool) (*blobcache.Blob, error) {
	name := repo.String()
	size, proven := g.proven(repo, d)
	until := time.Now().Add(answerLimit)
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	if !g.guard.open(repo.Name.Host, d) {
		return g.guardedBlob(ctx, *repo, d, blobcache.Want{Size: size, Offset: off, Ranged: ranged, Origin: name})
	}
	if !proven {
		if err := g.proveCheaply(ctx, *repo, d, until); err == nil {
			size, proven = g.named.size(name, d)
		} else if repo.Name.IsOwn() {
			return nil, err
		}
	}
	want := blobcache.Want{Size: size, Offset: off, Ranged: ranged, Origin: name, Sources: g.sources(*repo, d, proven)}
	h, err := g.disk.Get(ctx, d, want)
	switch {
	case !proven && (err == nil || !answered(err)):
		return g.proveLate(ctx, repo, d, until, &want, h, err)
	case err != nil:
		return nil, err
	}
	return h, nil
}

// proveLate proves what was opened, as h, without a proof, or could not be, for err.
// Either it joined somebody's fill, which proves nothing, or the upstream is out and
// the bucket deserves more patience.
//
//go:noinline
func (g *Registry) proveLate(ctx context.Context, repo *Repository, d manifest.Digest, until time.Time, want *blobcache.Want, h *blobcache.Blob, err error) (*blobcache.Blob, error) {
	if perr := g.proveBlob(ctx, *repo, d, until); perr != nil {
		if err == nil {
			h.Close()
		}
		return nil, perr
	}
	if err != nil && g.bucket != nil {
		want.Sources = g.sources(*repo, d, true)
		h, err = g.disk.Get(ctx, d, *want)
	}
	if err != nil {
		return nil, err
	}
	return h, nil
}

// claim guards what came for the repository of an upstream, or from it, if that is
// asked with credentials.
func (g *Registry) claim(host string, d manifest.Digest) {
	if o := g.origins[host]; o != nil && o.private() {
		g.guard.claim(host, d)
	}
}

// served remembers on disk that a repository has the blob, once an entry of
// memory.
func (g *Registry) served(repo string, d manifest.Digest) {
	if seen, _ := g.linked.ContainsOrAdd(content{repo, d}, struct{}{}); !seen {
		g.linkLayer(repo, d)
	}
}

// sources are those of a blob, in the order in which they are asked. Only what is
// proven is read from the bucket, which does not know who may have what.
func (g *Registry) sources(repo Repository, d manifest.Digest, proven bool) []blobcache.Source {
	var list []blobcache.Source
	if g.bucket != nil && proven {
		list = append(list, storeSource{g.bucket, d})
	}
	if o := g.origins[repo.Name.Host]; o != nil {
		list = append(list, &upstreamSource{origin: o, path: repo.Name.Path, d: d, first: func(size int64) {
			g.claim(o.name, d)
			g.named.add(repo.String(), d, size)
			g.served(repo.String(), d)
			g.owed.blob(repo.String(), d, size)
		}})
	}
	return list
}

// Sources returns where the rest of a fill that a restart interrupted can be had,
// by the Want.Origin and the size of that fill: it is for blobcache.Cache.Resume.
// There is none for a repository whose upstream is not configured any more.
func (g *Registry) Sources(d manifest.Digest, origin string, size int64) []blobcache.Source {
	g.named.add(origin, d, size)
	return g.sources(g.repository(origin), d, true)
}

// repository is the reverse of Repository.String.
func (g *Registry) repository(name string) Repository {
	for host := range g.origins {
		if len(name) > len(host)+1 && name[:len(host)] == host && name[len(host)] == '/' {
			return newRepository(manifest.Name{Host: host, Path: name[len(host)+1:]}, "")
		}
	}
	return newRepository(manifest.Name{Path: name}, "")
}

// StatBlob returns the length of the blob in bytes and the source that said so,
// without fetching it. Errors are as those of Manifest.
func (g *Registry) StatBlob(ctx context.Context, repo Repository, d manifest.Digest) (size int64, source string, err error) {
	size, source, err = g.statOf(ctx, repo, d)
	if own, ok := g.becameOwn(ctx, repo, err); ok {
		return g.statOf(ctx, own, d)
	}
	return size, source, err
}

// statOf is StatBlob of what repo is known to be.
func (g *Registry) statOf(ctx context.Context, repo Repository, d manifest.Digest) (size int64, source string, err error) {
	until := time.Now().Add(g.limit(repo))
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	// Of what is guarded it is none of another upstream's business that it is here.
	if g.guard.open(repo.Name.Host, d) {
		if b, err := g.disk.Join(ctx, d); err == nil {
			defer b.Close()
			if err := g.proveBlob(ctx, repo, d, until); err != nil {
				return 0, "", fmt.Errorf("blob %s of %s: %w", d, repo, err)
			}
			if size := b.Size(); size >= 0 {
				return size, b.Source(), nil
			}
		}
	}
	older := never[stat]
	if repo.Name.IsOwn() {
		older = missing
	}
	s, err := g.stats.since(ctx, time.Now(), until, content{repo.String(), d}, older, func(ctx context.Context) (stat, error) { return g.stat(ctx, repo, d) })
	if err != nil {
		return 0, "", fmt.Errorf("blob %s of %s: %w", d, repo, err)
	}
	return s.size, s.source, nil
}

// stat is what a source says of a blob.
type stat struct {
	size   int64
	source string
}

// stat asks the sources for a blob that is not on this disk.
func (g *Registry) stat(ctx context.Context, repo Repository, d manifest.Digest) (stat, error) {
	fromBucket := func(ctx context.Context) (stat, error) {
		if _, ok := g.proven(&repo, d); !ok {
			if err := g.inBucket(ctx, repo, d, g.ofBlob()); err != nil {
				return stat{}, err
			}
		}
		size, err := g.bucket.statBlob(ctx, d)
		return stat{size, SourceStore}, err
	}
	fromUpstream := func(ctx context.Context) (stat, error) {
		size, err := g.origins[repo.Name.Host].probe(ctx, repo.Name.Path, d)
		if known, ok := g.named.size(repo.String(), d); ok && size < 0 {
			size = known
		}
		return stat{size, SourceUpstream}, err
	}
	switch o := g.origins[repo.Name.Host]; {
	case g.bucket == nil && o == nil:
		return stat{}, fs.ErrNotExist
	case o == nil:
		return fromBucket(ctx)
	case g.bucket == nil || !g.guard.open(o.name, d):
		return fromUpstream(ctx)
	}
	return staggered(ctx, g.bg, g.bucket.store.Patience(), fromBucket, fromUpstream)
}
