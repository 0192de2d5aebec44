package registryd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream"
)

// Referrals are the manifests that refer to another one: signatures, bills of
// materials, provenance.
type Referrals struct {
	List    []manifest.Descriptor // shared: nobody writes to it
	Source  string                // one of the Source constants
	Warning string                // as Answer.Warning
}

// Referrers returns all that refers to subject in repo: of the bucket's own
// repositories what the bucket says, of an upstream's what that says, for as long as
// a tag without a rule of its own is believed. That there is nothing is not an error.
// Errors are as those of Manifest.
func (g *Registry) Referrers(ctx context.Context, repo Repository, subject manifest.Digest) (Referrals, error) {
	r, err := g.referrersOf(ctx, repo, subject)
	if err == nil && len(r.List) == 0 && repo.bare() {
		err = fs.ErrNotExist // an upstream that has no such repository has an empty list
	}
	if own, ok := g.becameOwn(ctx, repo, err); ok {
		return g.referrersOf(ctx, own, subject)
	}
	if r.Source != "" {
		return r, nil
	}
	return r, err
}

// referrersOf is Referrers of what repo is known to be.
func (g *Registry) referrersOf(ctx context.Context, repo Repository, subject manifest.Digest) (r Referrals, err error) {
	switch o := g.origins[repo.Name.Host]; {
	case o != nil:
		r, err = g.mirroredReferrers(ctx, o, repo, subject)
	case g.bucket == nil || !repo.Name.IsOwn():
		err = fs.ErrNotExist
	default:
		r, err = g.ownReferrers(ctx, repo, subject)
	}
	if err != nil {
		return Referrals{}, fmt.Errorf("referrers of %s@%s: %w", repo, subject, err)
	}
	return r, nil
}

// ownReferrers asks the bucket.
func (g *Registry) ownReferrers(ctx context.Context, repo Repository, subject manifest.Digest) (Referrals, error) {
	ctx, done, err := g.list(ctx)
	if err != nil {
		return Referrals{}, err
	}
	defer done()
	list, err := askBucket(ctx, g.bucket, func(ctx context.Context) ([]manifest.Descriptor, error) {
		return g.bucket.store.Referrers(ctx, repo.String(), subject)
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return Referrals{List: list, Source: SourceStore}, err
}

// mirroredReferrers is what the upstream said within the TTL, or says now, or, in an
// outage of it, said last.
func (g *Registry) mirroredReferrers(ctx context.Context, o *origin, repo Repository, subject manifest.Digest) (Referrals, error) {
	p, now, key := g.policies.of(repo, ""), time.Now(), content{repo.String(), subject}
	if p.Mode == Immutable {
		p = DefaultPolicy // a tag that never moves is signed later all the same
	}
	known, ok := g.referrals.get(key)
	switch {
	case ok && p.fresh(known.asked, now):
		return Referrals{List: known.list, Source: SourceDisk}, nil
	case ok && o.resting():
		return staleReferrals(o, known), nil
	case p.Mode == Offline:
		return Referrals{}, fmt.Errorf("%s is not asked (policy offline); look for the tag %s: %w", o.name, referrersTag(subject), fs.ErrNotExist)
	}
	until := now.Add(g.limit(repo))
	switch {
	case ok && o.troubled():
		until = now.Add(troubledPatience)
	case ok:
		until = now.Add(tagLimit)
	}
	f := g.referring.join(key, func(ctx context.Context) ([]manifest.Descriptor, error) {
		list, err := o.referrers(ctx, repo.Name.Path, subject)
		if err == nil {
			g.referrals.add(key, list)
		}
		return list, err
	})
	list, err := f.wait(ctx, until)
	switch {
	case err == nil:
		return Referrals{List: list, Source: SourceUpstream}, nil
	case ok && !answered(err) && ctx.Err() == nil:
		g.staleAnswers.Add(1)
		return staleReferrals(o, known), nil
	}
	return Referrals{}, err
}

func staleReferrals(o *origin, k referral) Referrals {
	return Referrals{List: k.list, Source: SourceDisk, Warning: fmt.Sprintf("299 - %q", o.name+" cannot be asked what refers to this; last asked "+k.asked.UTC().Format(time.RFC3339))}
}

// referrers asks for what refers to subject: by the API for it, or, of an upstream
// that does not have that, by the tag that stands in for it.
func (o *origin) referrers(ctx context.Context, repo string, subject manifest.Digest) ([]manifest.Descriptor, error) {
	up, ok := o.up.(ReferrerUpstream)
	if ok && !o.withoutReferrers(repo) {
		list, err := o.askReferrers(ctx, up, repo, subject)
		if !errors.Is(err, fs.ErrNotExist) {
			return list, err
		}
		if lacksAPI(err) {
			o.noReferrers.Add(repo, time.Now().Add(noReferrersTTL))
		}
	}
	body, done, err := o.manifest(ctx, repo, referrersTag(subject))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer done()
	m, err := manifest.Parse(body)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", referrersTag(subject), repo, err)
	}
	return m.Manifests, nil
}

func (o *origin) askReferrers(ctx context.Context, up ReferrerUpstream, repo string, subject manifest.Digest) (list []manifest.Descriptor, err error) {
	r := reservation{room: o.room}
	defer r.free()
	ctx = manifest.WithNeed(ctx, r.need)
	err = r.with(ctx, func() error {
		return o.question(ctx, func() error {
			list, err = up.Referrers(ctx, repo, subject)
			o.note(ctx, err)
			return err
		})
	})
	return list, err
}

// lacksAPI reports whether a 404 is about the endpoint, rather than about the
// repository.
func lacksAPI(err error) bool {
	e, ok := errors.AsType[*upstream.Error](err)
	return ok && e.Code != "NAME_UNKNOWN" && e.Code != "MANIFEST_UNKNOWN"
}

const (
	// noReferrersTTL is for how long an upstream without the API is not asked for it:
	// one that is renewed gets it once in some years.
	noReferrersTTL = 10 * time.Minute

	// maxNoReferrers bounds the repositories of which that is remembered. It is by
	// repository because not all registries say of one that is not there what lacksAPI
	// knows: who asks for such a one must not have the signatures of all others lost.
	maxNoReferrers = 1 << 10
)

func (o *origin) withoutReferrers(repo string) bool {
	until, ok := o.noReferrers.Get(repo)
	return ok && time.Now().Before(until)
}

// referrersTag is the tag under which clients keep the referrers of a manifest where
// a registry does not list them, as the specification has it.
func referrersTag(subject manifest.Digest) string {
	const most = 128 // characters of a tag: less than a sha512 has with its name
	tag := string(subject.Algorithm()) + "-" + subject.Hex()
	return tag[:min(len(tag), most)]
}
