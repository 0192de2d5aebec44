package registryd

import (
	"context"
	"fmt"
	"time"

	"hostlocal/manifest"
)

const (
	// decisionTTL is for how long the bucket's answer to whether a bare name is
	// one of its own is not asked for again: a push from another host becomes
	// visible within it.
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
	whyNotOwnRemembered = "a bare name: the bucket cannot be asked now; it had none by it: the default upstream's"
	whyNoBucket         = "a bare name, and there is no bucket: the default upstream's"
)

// A decision is what a bare name means until the bucket is asked again.
type decision struct {
	own   bool
	why   string
	until time.Time
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
	own, why, err := g.isOwn(ctx, m.Own.Path)
	if err != nil {
		return Repository{}, fmt.Errorf("whether %s is the bucket's own: %w", m.Own.Path, err)
	}
	if own {
		m.Name = m.Own
	}
	return newRepository(m.Name, why), nil
}

// isOwn reports whether the bucket has a repository of its own by a bare name:
// what it says, else what it said last. One that a moment of silence makes
// another would hand a team's name to strangers.
func (g *Registry) isOwn(ctx context.Context, name string) (own bool, why string, err error) {
	if g.bucket == nil {
		return false, whyNoBucket, nil
	}
	if d, ok := g.decisions.Get(name); ok && time.Now().Before(d.until) {
		return d.own, d.why, nil
	}
	remembered, known := g.links.Own(name)
	until := time.Now().Add(answerLimit)
	if known {
		until = time.Now().Add(min(g.bucket.store.Patience(), rememberedPatience))
	}
	f := g.existence.join(name, func(ctx context.Context) (bool, error) {
		own, err := g.bucket.exists(ctx, name)
		if err == nil {
			g.decide(name, own, pick(own, whyOwnAnswered, whyNotOwnAnswered), decisionTTL)
			if err := g.links.SetOwn(name, own); err != nil {
				g.log.Warn("name's owner not kept on disk", "repository", name, "err", err)
			}
		}
		return own, err
	})
	own, err = f.wait(ctx, until)
	switch {
	case err == nil:
		return own, pick(own, whyOwnAnswered, whyNotOwnAnswered), nil
	case known:
		why = pick(remembered, whyOwnRemembered, whyNotOwnRemembered)
		g.decide(name, remembered, why, memoryTTL)
		return remembered, why, nil
	}
	return false, "", err
}

// decide has the bucket not be asked about name for a while.
func (g *Registry) decide(name string, own bool, why string, keep time.Duration) {
	g.decisions.Add(name, decision{own, why, time.Now().Add(keep)})
}

func pick[V any](first bool, a, b V) V {
	if first {
		return a
	}
	return b
}
