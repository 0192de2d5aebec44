package registryd

import (
	"context"
	"time"

	"hostlocal/manifest"
)

// mount links a blob in repo that the pusher may see elsewhere, and reports whether it
// did: whatever is in the way, the client can send the bytes.
//
// from is the repository that the client names, or nil. A digest alone gives no right
// to anything, but what lies in any of the bucket's own repositories whoever may push
// may also pull: so without a name one will do in which this host knows the blob.
func (g *Registry) mount(ctx context.Context, repo Repository, from *Repository, d manifest.Digest) bool {
	if g.takesPushes() != nil {
		return false
	}
	if !g.visible(ctx, repo, from, d) {
		return false
	}
	size, err := g.bucket.statBlob(ctx, d) // a link may outlive what it links
	if err != nil {
		return false
	}
	asked := time.Now()
	if err := g.store().LinkLayer(ctx, repo.String(), d); err != nil {
		g.log.Debug("a blob was not mounted", "repository", repo, "digest", d, "err", err)
		return false
	}
	g.pushedBlob(repo, d, size, asked)
	return true
}

// visible reports whether the blob is linked in from, or, without one, in repo or the
// repository of which this host knows it. The bucket says so: what was deleted through
// another host is not to be had by a mount.
func (g *Registry) visible(ctx context.Context, repo Repository, from *Repository, d manifest.Digest) bool {
	if from != nil {
		return g.bucketHasLayer(ctx, *from, d) == nil
	}
	if owner, ok := g.owners.Get(d); ok && g.bucketHasLayer(ctx, g.repository(owner), d) == nil {
		return true
	}
	return g.provenHere(ctx, repo.String(), d, g.ofBlob()) && g.bucketHasLayer(ctx, repo, d) == nil
}
