package registryd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"hostlocal/manifest"
)

// maxRefusal bounds for how long a 401, 403 or 404 of an upstream is answered
// without asking again.
const maxRefusal = time.Second

// confirm asks the source of a tag what it stands for and notes the answer. One
// runs at a time a tag, with a context of its own.
func (g *Registry) confirm(ctx context.Context, repo Repository, tag string, p Policy, get bool) (resolved, error) {
	key := tagKey{repo.String(), tag}
	k := g.tags.get(key)
	if !k.digest.IsZero() && k.refusal == nil && p.fresh(k.confirmed, time.Now()) {
		return resolved{known: k}, nil // the flight before this one brought it
	}
	asked := time.Now()
	r, err := g.ask(ctx, repo, tag, p, k, get)
	switch {
	case err == nil:
		return r, nil
	case answered(err):
		keep := min(p.refusalTTL(), maxRefusal)
		if repo.Name.IsOwn() {
			keep = 0 // a push may come at any moment
		}
		g.tags.refuse(key, err, keep, asked)
	case busy(err): // says nothing about the tag
	default:
		g.tags.fail(key, err, p.backoff())
	}
	return resolved{}, err
}

// ask asks the bucket about its own tags, and about an upstream's where nothing
// is known of it: what it says there is the last known, not the truth, except
// where tags never move. Then it asks the upstream.
func (g *Registry) ask(ctx context.Context, repo Repository, tag string, p Policy, k known, get bool) (resolved, error) {
	if repo.Name.IsOwn() {
		return g.askOwn(ctx, repo, tag)
	}
	o := g.origins[repo.Name.Host]
	if o == nil {
		return resolved{}, fmt.Errorf("no upstream %s: %w", repo.Name.Host, fs.ErrNotExist)
	}
	var last *flight[manifest.Digest]
	if g.bucket != nil && k.digest.IsZero() && k.refusal == nil {
		last = g.bucketTag(repo, tag)
		until := time.Now().Add(g.bucket.store.Patience())
		if p.ttl() < 0 {
			until = time.Now().Add(tagLimit)
		}
		if d, err := last.wait(ctx, until); err == nil {
			if p.ttl() < 0 {
				return resolved{known: g.settle(repo, tag, manifest.Descriptor{Digest: d}, time.Now())}, nil
			}
			get = false // a HEAD tells whether the bucket's is still the one
		} else if p.Mode == Offline && !errors.Is(err, fs.ErrNotExist) {
			return resolved{}, fmt.Errorf("%s:%s is asked of the bucket alone (policy offline): %w", repo, tag, err)
		}
	}
	if p.Mode == Offline {
		return resolved{}, fmt.Errorf("%s:%s is not here, and its upstream is not asked (policy offline): %w", repo, tag, fs.ErrNotExist)
	}
	r, err := g.askUpstream(ctx, o, repo, tag, get && k.digest.IsZero())
	if err != nil && !answered(err) && last != nil {
		// Whoever waits is served what the bucket has, as soon as it says so.
		_, _ = last.wait(ctx, time.Now().Add(tagLimit))
	}
	return r, err
}

// askOwn asks the bucket, which is the truth about its own tags.
func (g *Registry) askOwn(ctx context.Context, repo Repository, tag string) (resolved, error) {
	if g.bucket == nil {
		return resolved{}, fmt.Errorf("%s: there is no bucket: %w", repo, fs.ErrNotExist)
	}
	for range ownLooks {
		asked := time.Now()
		d, err := g.bucket.tag(ctx, repo.String(), tag)
		if err != nil {
			return resolved{}, fmt.Errorf("asking the bucket for %s:%s: %w", repo, tag, err)
		}
		g.named.saw(repo.String(), d, -1, asked) // no tag outlives its manifest's link
		k := g.settle(repo, tag, manifest.Descriptor{Digest: d}, asked)
		if k.confirmed.IsZero() && k.refusal == nil {
			continue // this host tried to change it meanwhile, and does not know what came of that
		}
		return resolved{known: k}, k.refusal // deleted meanwhile
	}
	return resolved{}, fmt.Errorf("%s:%s is changed on this host again and again", repo, tag)
}

// ownLooks is how often the bucket is asked for a tag of its own while this host fails to
// change it.
const ownLooks = 3

// bucketTag starts to ask the bucket what it has for an upstream's tag.
func (g *Registry) bucketTag(repo Repository, tag string) *flight[manifest.Digest] {
	key := tagKey{repo.String(), tag}
	return g.bucketTags.join(key, func(ctx context.Context) (manifest.Digest, error) {
		d, err := g.bucket.tag(ctx, key.repo, key.tag)
		if err == nil {
			g.tags.hint(key, d)
			g.named.add(key.repo, d, -1)
		}
		return d, err
	})
}

// askUpstream asks with a HEAD; with a GET, which brings the manifest in the same
// request, if get says so or the HEAD does not name a digest.
func (g *Registry) askUpstream(ctx context.Context, o *origin, repo Repository, tag string, get bool) (resolved, error) {
	if !get {
		desc, err := o.head(ctx, repo.Name.Path, tag)
		if err != nil {
			return resolved{}, fmt.Errorf("asking %s for %s:%s: %w", o.name, repo.Name.Path, tag, err)
		}
		if !desc.Digest.IsZero() {
			return resolved{known: g.settle(repo, tag, desc, time.Now())}, nil
		}
	}
	body, done, err := o.manifest(ctx, repo.Name.Path, tag)
	if err != nil {
		return resolved{}, fmt.Errorf("getting %s:%s from %s: %w", repo.Name.Path, tag, o.name, err)
	}
	defer done()
	m, err := manifest.Parse(body)
	if err != nil {
		return resolved{}, fmt.Errorf("%s:%s of %s: %w", repo.Name.Path, tag, o.name, err)
	}
	source := g.admit(repo, m, SourceUpstream)
	return resolved{known: g.settle(repo, tag, describe(m), time.Now()), m: m, source: source}, nil
}

// settle notes what a tag stands for, by the word of its source, which was asked at
// the time given. Its link on this disk and in the bucket follow when the manifest is
// here.
func (g *Registry) settle(repo Repository, tag string, desc manifest.Descriptor, asked time.Time) known {
	if !manifest.IsManifestType(desc.MediaType) {
		desc.MediaType = "" // not a word to pass on: the bytes will tell
	}
	k := g.tags.confirm(tagKey{repo.String(), tag}, desc, asked)
	if k.digest != desc.Digest {
		return k // this host changed it meanwhile
	}
	g.named.add(repo.String(), desc.Digest, -1)
	g.awaited.add(repo.String(), desc.Digest, tag)
	if g.guard.open(repo.Name.Host, desc.Digest) && g.disk.Has(desc.Digest) {
		g.linkManifest(repo.String(), desc.Digest)
		g.arrived(repo, desc.Digest)
	}
	return k
}

// arrived keeps the tags that stand for a manifest that is here now.
func (g *Registry) arrived(repo Repository, d manifest.Digest) {
	for _, tag := range g.awaited.take(repo.String(), d) {
		key := tagKey{repo.String(), tag}
		k := g.tags.get(key)
		if k.digest != d {
			continue // it moved on meanwhile
		}
		if m, err := g.onDisk(d); err == nil && !k.inBucket(d) && !repo.Name.IsOwn() {
			// Before the tag is on the disk: as of a manifest's, a kill in between
			// would leave it unwritten until it is next confirmed.
			g.tags.update(key, func(k *known) { k.stored, k.storedAt = d, time.Now() })
			g.owed.manifest(key.repo, tag, m)
		}
		if err := g.links.SetTag(key.repo, key.tag, d, k.confirmed); err != nil {
			g.log.Warn("tag not kept on disk", "tag", repo.String()+":"+tag, "err", err)
			continue
		}
		g.tags.keep(key, d)
	}
}

// describe is the descriptor of a manifest that is at hand.
func describe(m *manifest.Manifest) manifest.Descriptor {
	return manifest.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Body))}
}
