package registryd

import (
	"context"
	"fmt"
	"time"

	"hostlocal/manifest"
)

const (
	// decisionTTL is for how long the bucket's answer to whether a bare name is
	// one of its own is not asked for again, while the upstream has what is asked
	// of it by that name. Where it has not the bucket is asked again (undecided.go).
	decisionTTL = time.Minute

	// memoryTTL is for how long a remembered answer stands in for the bucket's
	// before it is asked again.
	memoryTTL = 5 * time.Second

	// rememberedPatience bounds the wait for the bucket's answer where its last one
	// is remembered. With tagLimit it is less than the 2 s that a tag may take.
	rememberedPatience = 150 * time.Millisecond

	// maxDecisions bounds the bare names in memory, some 200 bytes each.
	maxDecisions = 4 << 10
)

// Words for people, in Repository.Why.
const (
	whyOwnAnswered      = "a bare name: the bucket has a repository of its own by it"
	whyOwnRemembered    = "a bare name: the bucket cannot be asked now; it had a repository of its own by it"
	whyNotOwnAnswered   = "a bare name that the bucket does not have: the default upstream's"
	whyNotOwnLately     = "a bare name that the bucket did not have a moment ago: the default upstream's"
	whyNotOwnRemembered = "a bare name: the bucket cannot be asked now; it had none by it: the default upstream's"
	whyNoBucket         = "a bare name, and there is no bucket: the default upstream's"
)

// A decision is what a bare name means until the bucket is asked again.
type decision struct {
	own   bool
	why   string
	until time.Time
	made  time.Time
}

// Resolve decides what the repository path of a request means, with ns the value
// of ?ns= or empty. The error wraps manifest.ErrName or manifest.ErrRegistry, or
// is an outage if the bucket must be asked and cannot be.
func (g *Registry) Resolve(ctx context.Context, path, ns string) (Repository, error) {
	m, err := g.options.Names.Resolve(path, ns)
	if err != nil {
		return Repository{}, err
	}
	return g.decided(ctx, m)
}

// decided is the repository that a name means, once the bucket was asked if need
// be.
func (g *Registry) decided(ctx context.Context, m manifest.Meaning) (Repository, error) {
	if !m.Undecided {
		return newRepository(m.Name, m.Why), nil
	}
	d, err := g.isOwn(ctx, m.Own.Path)
	if err != nil {
		return Repository{}, fmt.Errorf("whether %s is the bucket's own: %w", m.Own.Path, err)
	}
	if d.own {
		m.Name = m.Own
	}
	return newRepository(m.Name, d.why), nil
}

// isOwn decides whether the bucket has a repository of its own by a bare name: what
// it says, else what it said last. One that a moment of silence makes another would
// hand a team's name to strangers.
func (g *Registry) isOwn(ctx context.Context, name string) (decision, error) {
	if g.bucket == nil {
		return decision{why: whyNoBucket}, nil
	}
	asked := time.Now()
	if d, ok := g.decisions.Get(name); ok && asked.Before(d.until) {
		if d.why == whyNotOwnAnswered {
			d.why = whyNotOwnLately
		}
		return d, nil
	}
	remembered, known := g.links.Own(name)
	until := asked.Add(answerLimit)
	if known {
		until = asked.Add(min(g.bucket.store.Patience(), rememberedPatience))
	}
	f := g.existence.join(name, g.exists(name))
	own, err := f.wait(ctx, until)
	switch {
	case err == nil:
		// An answer to somebody else may be older than a push that is known of here.
		notOwn := pick(f.began.Before(asked), whyNotOwnLately, whyNotOwnAnswered)
		return decision{own: own, why: pick(own, whyOwnAnswered, notOwn)}, nil
	case known:
		return g.decide(name, remembered, pick(remembered, whyOwnRemembered, whyNotOwnRemembered), memoryTTL), nil
	}
	return decision{}, err
}

// exists asks the bucket whether it has a repository of its own by a bare name, and
// notes what it says, unless it was pushed to since it was asked.
func (g *Registry) exists(name string) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		asked := time.Now()
		own, err := g.bucket.exists(ctx, name)
		if err != nil {
			return false, err
		}
		if d, ok := g.decisions.Peek(name); ok && d.own && !d.made.Before(asked) {
			return true, nil
		}
		g.settleOwn(name, own)
		return own, nil
	}
}

// settleOwn notes that a bare name is one of the bucket's own, or is not, in memory
// and on this disk.
func (g *Registry) settleOwn(name string, own bool) {
	g.decide(name, own, pick(own, whyOwnAnswered, whyNotOwnAnswered), decisionTTL)
	if err := g.links.SetOwn(name, own); err != nil {
		g.log.Warn("name's owner not kept on disk", "repository", name, "err", err)
	}
}

// becomesOwn notes that a name which could have been an upstream's has been pushed
// to.
func (g *Registry) becomesOwn(repo Repository) {
	if repo.Why == whyOwnPushed {
		g.settleOwn(repo.Name.Path, true)
	}
}

// decide has the bucket not be asked about name for a while.
func (g *Registry) decide(name string, own bool, why string, keep time.Duration) decision {
	now := time.Now()
	d := decision{own, why, now.Add(keep), now}
	g.decisions.Add(name, d)
	return d
}

func pick[V any](first bool, a, b V) V {
	if first {
		return a
	}
	return b
}
