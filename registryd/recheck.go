package registryd

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"hostlocal/manifest"
)

// linkTTL is for how long the bucket is not asked again whether one of its own
// repositories still shows a digest. It bounds for how long a host serves what was
// deleted through another one, and a digest that is pulled all the time costs a
// call in so much. A pull that takes longer than that for its layers pays one for
// each of them, which is little beside what they took.
const linkTTL = 5 * time.Second

// ttlOfLinks is the policy's TTL if the repository has one, negative if nothing of it
// ever changes.
func (g *Registry) ttlOfLinks(repo Repository) time.Duration {
	if t := g.policies.of(repo, "").ttl(); t != 0 {
		return t
	}
	return linkTTL
}

// proven returns the size of d, -1 if it is not known, and whether it may be served
// under repo without asking anybody: something proved it, and in one of the bucket's
// own repositories not too long ago.
func (g *Registry) proven(repo *Repository, d manifest.Digest) (size int64, ok bool) {
	v, ok := g.named.get(repo.String(), d)
	if ok && repo.Name.IsOwn() && g.bucket != nil {
		ok = v.young(g.ttlOfLinks(*repo))
	}
	return v.size, ok
}

// A look is what is looked for in the bucket: the link of a manifest or of a layer.
type look struct {
	content
	layer bool
}

// proveOwn is prove for one of the bucket's own repositories. The bucket is asked,
// also about what was proven before; while it cannot be, that counts. Only the word
// of the bucket itself ends it:
//
//	seen within linkTTL ──────────────────> serve
//	else join the look at its link:
//	    it is there ──────────────────────> serve
//	    it is not ────────────────────────> forget it, 404
//	    no answer within the bound ───────> serve what was proven before, and do not
//	                                        look again for linkTTL
func (g *Registry) proveOwn(ctx context.Context, repo Repository, d manifest.Digest, e evidence) error {
	if _, ok := g.proven(&repo, d); ok {
		return nil
	}
	asked := time.Now()
	before, until := g.provenHere(ctx, repo.String(), d, e), asked.Add(answerLimit)
	switch {
	case before && g.troubled(repo):
		until = asked.Add(troubledPatience)
	case before:
		until = asked.Add(tagLimit)
	}
	_, err := g.looks.since(ctx, asked, until, look{content{repo.String(), d}, e.layer}, missing, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, g.lookAt(ctx, repo, d, e)
	})
	if before && err != nil && !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
		g.named.excuse(repo.String(), d)
		return nil
	}
	return err
}

// missing is what an older flight is not believed: a push may have come since.
func missing[V any](_ V, err error) bool { return errors.Is(err, fs.ErrNotExist) }

// never is for flights of which an older one is as good as any.
func never[V any](V, error) bool { return false }

// lookAt asks the bucket for a link, and notes what it says.
func (g *Registry) lookAt(ctx context.Context, repo Repository, d manifest.Digest, e evidence) error {
	asked := time.Now()
	stored, err := e.bucket(ctx, repo, d)
	switch {
	case err == nil:
		g.named.saw(repo.String(), d, -1, asked)
		g.named.stored(repo.String(), d, stored)
	case errors.Is(err, fs.ErrNotExist):
		g.disown(repo.String(), d, e.layer, asked)
	}
	return err
}

// inBucket is lookAt, where a link can be deleted; else it only asks.
func (g *Registry) inBucket(ctx context.Context, repo Repository, d manifest.Digest, e evidence) error {
	if repo.Name.IsOwn() {
		return g.lookAt(ctx, repo, d, e)
	}
	_, err := e.bucket(ctx, repo, d)
	return err
}

// excuse has a manifest be served without a look at its link: the tag that stands
// for it could not be asked for, and whoever waited for that shall not wait again.
func (g *Registry) excuse(repo Repository, d manifest.Digest) {
	name := repo.String()
	if _, ok := g.named.size(name, d); ok || g.links.HasManifest(name, d) {
		g.named.add(name, d, -1)
		g.named.excuse(name, d)
	}
}

// disown forgets that one of the bucket's own repositories has d, in memory and on
// this disk: the bucket, asked at the time given, has not. The bytes stay, they may
// be another repository's.
func (g *Registry) disown(repo string, d manifest.Digest, layer bool, asked time.Time) {
	if !g.named.missed(repo, d, asked) {
		return
	}
	unlink := g.links.UnlinkManifest
	if layer {
		g.linked.Remove(content{repo, d})
		unlink = g.links.UnlinkLayer
	}
	if err := unlink(repo, d); err != nil {
		g.log.Warn("link on disk not removed", "repository", repo, "digest", d, "err", err)
	}
}
