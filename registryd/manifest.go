package registryd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"hostlocal/manifest"
)

// loaded is a manifest and where it came from, in the words of Answer.Source.
type loaded struct {
	m      *manifest.Manifest
	source string
}

// Manifest returns the manifest that ref stands for in repo. For a HEAD say
// headOnly: a manifest that only its source has is then not fetched, if the tag's
// confirmation said all that a HEAD wants to know.
//
// An error wraps fs.ErrNotExist if the source answered that there is none,
// fs.ErrPermission if the upstream refuses it; else it is an outage, after at
// most answerLimit.
func (g *Registry) Manifest(ctx context.Context, repo Repository, ref Ref, headOnly bool) (Answer, error) {
	a, err := g.manifestOf(ctx, repo, ref, headOnly)
	if err != nil {
		if own, ok := g.becameOwn(ctx, repo, err); ok {
			return g.manifestOf(ctx, own, ref, headOnly)
		}
	}
	return a, err
}

// manifestOf is Manifest of what repo is known to be.
func (g *Registry) manifestOf(ctx context.Context, repo Repository, ref Ref, headOnly bool) (Answer, error) {
	if ref.Tag == "" {
		l, err := g.manifest(ctx, repo, ref.Digest, time.Now().Add(g.limit(repo)))
		return g.answer(l, "", headOnly), err
	}
	start := time.Now()
	r, err := g.tag(ctx, repo, ref.Tag, !headOnly)
	if err != nil {
		return Answer{}, err
	}
	if r.m != nil {
		return g.answer(loaded{r.m, r.source}, r.warning, headOnly), nil
	}
	if m, ok := g.warm(repo, r.digest); ok {
		return g.answer(loaded{m, SourceDisk}, r.warning, headOnly), nil
	}
	if headOnly && r.mediaType != "" && !g.disk.Has(r.digest) {
		m := &manifest.Manifest{Digest: r.digest, MediaType: r.mediaType}
		return Answer{Manifest: m, Size: r.size, Source: SourceUpstream, Warning: r.warning}, nil
	}
	var old *manifest.Manifest // what the tag stood for before, if there is a choice
	until := start.Add(g.limit(repo))
	if !r.before.IsZero() && r.before != r.digest {
		if old, err = g.onDisk(r.before); err == nil {
			until = start.Add(tagLimit)
		}
	}
	l, err := g.manifest(ctx, repo, r.digest, until)
	if err != nil && !answered(err) && old != nil && ctx.Err() == nil {
		// The tag moved to what nobody can give now.
		g.staleAnswers.Add(1)
		return g.answer(loaded{old, SourceDisk}, staleWarning(repo, r.confirmed), headOnly), nil
	}
	return g.answer(l, r.warning, headOnly), err
}

// answer is what a client gets to see of l; the zero Answer of the zero loaded. The
// bytes of a large manifest, which were just verified, come from their sealed file as a
// blob's do, where the disk could keep them.
func (g *Registry) answer(l loaded, warning string, headOnly bool) Answer {
	if l.m == nil {
		return Answer{}
	}
	a := Answer{Manifest: l.m, Size: int64(len(l.m.Body)), Source: l.source, Warning: warning}
	if a.Size <= manifest.Small {
		return a
	}
	if !headOnly {
		b, err := g.disk.Open(l.m.Digest)
		if err != nil {
			return a
		}
		a.Large = b
	}
	a.Manifest = &manifest.Manifest{Digest: l.m.Digest, MediaType: l.m.MediaType}
	return a
}

// manifest returns the manifest d of repo: from memory, from this disk, from the
// bucket, from the upstream. until bounds the wait.
func (g *Registry) manifest(ctx context.Context, repo Repository, d manifest.Digest, until time.Time) (loaded, error) {
	name := repo.String()
	if m, ok := g.warm(repo, d); ok {
		return loaded{m, SourceDisk}, nil
	}
	older := never[loaded]
	if repo.Name.IsOwn() {
		older = missing
	}
	l, err := g.loads.since(ctx, time.Now(), until, content{name, d}, older, func(ctx context.Context) (loaded, error) { return g.load(ctx, repo, d) })
	if err != nil {
		return loaded{}, fmt.Errorf("manifest %s of %s: %w", d, name, err)
	}
	return l, nil
}

// warm returns a manifest that is in memory and known to be repo's.
func (g *Registry) warm(repo Repository, d manifest.Digest) (*manifest.Manifest, bool) {
	m, ok := g.parsed.Get(d)
	if !ok || !g.guard.open(repo.Name.Host, d) {
		return nil, false
	}
	if _, ok = g.proven(&repo, d); ok {
		g.owed.servedManifest(repo.String(), m)
	}
	return m, ok
}

// load is the work behind manifest.
func (g *Registry) load(ctx context.Context, repo Repository, d manifest.Digest) (loaded, error) {
	if !g.guard.open(repo.Name.Host, d) {
		return g.fetch(ctx, repo, d) // the bytes are the proof, and few
	}
	m, err := g.onDisk(d)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			g.log.Warn("manifest on disk is of no use; getting it anew", "digest", d, "err", err)
		}
		return g.fetch(ctx, repo, d)
	}
	if err := g.prove(ctx, repo, d, g.ofManifest()); err != nil {
		return loaded{}, err
	}
	g.named.addManifest(repo, m)
	g.linkManifest(repo.String(), d)
	g.arrived(repo, d)
	g.owed.servedManifest(repo.String(), m)
	return loaded{m, SourceDisk}, nil
}

// fetch gets a manifest from the bucket, which an upstream's is raced by when it
// is slow, or from the upstream, and keeps it.
func (g *Registry) fetch(ctx context.Context, repo Repository, d manifest.Digest) (loaded, error) {
	name := repo.String()
	fromBucket := func(ctx context.Context) (loaded, error) {
		// A tag or a mirrored index that named it is enough of a proof.
		if _, ok := g.proven(&repo, d); !ok {
			if err := g.inBucket(ctx, repo, d, g.ofManifest()); err != nil {
				return loaded{}, err
			}
		}
		m, err := g.bucket.manifest(ctx, name, d)
		return loaded{m, SourceStore}, err
	}
	o := g.origins[repo.Name.Host]
	fromUpstream := func(ctx context.Context) (loaded, error) {
		body, done, err := o.manifest(ctx, repo.Name.Path, d.String())
		if err != nil {
			return loaded{}, fmt.Errorf("getting it from %s: %w", o.name, err)
		}
		defer done()
		m, err := manifest.ParseAs(d, body)
		return loaded{m, SourceUpstream}, err
	}
	var l loaded
	var err error
	switch {
	case g.bucket == nil && o == nil:
		return loaded{}, fmt.Errorf("neither bucket nor upstream: %w", fs.ErrNotExist)
	case o == nil:
		l, err = fromBucket(ctx)
	case g.bucket == nil || !g.guard.open(o.name, d):
		l, err = fromUpstream(ctx)
	default:
		l, err = staggered(ctx, g.bg, g.bucket.store.Patience(), fromBucket, fromUpstream)
	}
	if err != nil {
		return loaded{}, err
	}
	l.source = g.admit(repo, l.m, l.source)
	return l, nil
}

// admit keeps a manifest that came from a source and was verified: on disk,
// linked, in memory; and has it written back to the bucket if that has not got
// it. It returns the source that the answer names.
func (g *Registry) admit(repo Repository, m *manifest.Manifest, from string) string {
	name := repo.String()
	g.claim(repo.Name.Host, m.Digest)
	if from == SourceUpstream {
		g.guard.show(repo.Name.Host, m.Digest)
	}
	g.parsed.Add(m)
	g.named.addManifest(repo, m)
	// Before it is on the disk: a kill in between would leave a manifest here that
	// nobody knows to be owed. It is written from memory.
	if from == SourceUpstream {
		g.owed.manifest(name, "", m)
	} else {
		g.owed.servedManifest(name, m)
	}
	if err := g.disk.Put(m.Digest, bytes.NewReader(m.Body), int64(len(m.Body))); err != nil {
		g.log.Debug("manifest not kept on disk", "digest", m.Digest, "err", err)
		return from
	}
	g.linkManifest(name, m.Digest)
	g.arrived(repo, m.Digest)
	return SourceFill
}

// linkManifest remembers on disk that repo has d.
func (g *Registry) linkManifest(repo string, d manifest.Digest) {
	if err := g.links.LinkManifest(repo, d); err != nil {
		g.log.Warn("manifest not linked on disk", "repository", repo, "digest", d, "err", err)
	}
}

// onDisk returns a manifest that is complete on this disk, from memory if it was
// read before. It is hashed when it is read; one that does not match is removed
// from the disk.
func (g *Registry) onDisk(d manifest.Digest) (*manifest.Manifest, error) {
	if m, ok := g.parsed.Get(d); ok {
		return m, nil
	}
	b, err := g.disk.Open(d)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	size := b.Size()
	if size < 0 || size > manifest.MaxSize {
		return nil, fmt.Errorf("%s has %d bytes: %w", d, size, manifest.ErrManifest)
	}
	if size > manifest.Small {
		r := reservation{room: g.diskRoom}
		if err := r.with(g.bg.ctx, func() error { return r.need(size) }); err != nil {
			return nil, fmt.Errorf("reading %s: %w", d, err)
		}
		defer r.free()
	}
	body := make([]byte, size)
	if n, err := b.ReadAt(body, 0); n < len(body) {
		return nil, fmt.Errorf("reading %s: %w", d, err)
	}
	m, err := manifest.ParseAs(d, body)
	if errors.Is(err, manifest.ErrMismatch) {
		err = errors.Join(err, g.disk.Remove(d))
	}
	if err != nil {
		return nil, err
	}
	g.parsed.Add(m)
	return m, nil
}
