package registryd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hostlocal/manifest"
)

// resolved is what a tag is answered with.
type resolved struct {
	known
	warning string             // why it is not known to be fresh, for the Warning header
	m       *manifest.Manifest // set if the tag was got with its manifest, in one request
	source  string             // of m
}

// tag returns what the tag stands for, as fresh as its policy wants it. get says
// that the manifest is wanted too, so that a tag of which nothing is known is got
// with it.
//
//	fresh ───────────────────────────────> serve, no network
//	refused a moment ago ────────────────> the refusal
//	in back-off, and known ──────────────> serve with Warning
//	else join the tag's confirmation:
//	    it answers within the bound ─────> serve, or the refusal
//	    it fails, or the bound ends ─────> serve with Warning if known, else the outage
//	    too much is being asked ─────────> the same, at once
func (g *Registry) tag(ctx context.Context, repo Repository, tag string, get bool) (resolved, error) {
	key, p, now := tagKey{repo.String(), tag}, g.policies.of(repo, tag), time.Now()
	k := g.tags.get(key)
	switch {
	case !k.digest.IsZero() && k.refusal == nil && p.fresh(k.confirmed, now):
		return resolved{known: k}, nil
	case k.refusal != nil && now.Before(k.until):
		return resolved{}, k.refusal
	case k.digest.IsZero() && k.trouble != nil && now.Before(k.retry):
		return resolved{}, k.trouble
	case !k.digest.IsZero() && (now.Before(k.retry) || g.resting(repo)):
		return g.stale(repo, k), nil
	}
	confirm := func(ctx context.Context) (resolved, error) { return g.confirm(ctx, repo, tag, p, get) }
	f := g.confirmations.join(key, confirm)
	until := minTime(f.began.Add(tagLimit), now.Add(tagLimit))
	if !k.digest.IsZero() && g.troubled(repo) {
		until = minTime(until, now.Add(troubledPatience))
	}
	r, err := f.wait(ctx, until)
	if repo.Name.IsOwn() && p.ttl() == 0 && f.began.Before(now) && (err == nil || answered(err)) {
		// The bucket may have been asked before a push that has been acknowledged
		// by now, here or elsewhere.
		f = g.confirmations.join(key, confirm)
		r, err = f.wait(ctx, now.Add(tagLimit))
	}
	if errors.Is(err, errLate) {
		if k = g.tags.get(key); k.digest.IsZero() {
			r, err = f.wait(ctx, now.Add(g.limit(repo)))
		} else if o := g.origins[repo.Name.Host]; o != nil {
			o.late(p.backoff())
		} else {
			g.tags.fail(key, err, p.backoff())
		}
	}
	if err == nil || answered(err) || ctx.Err() != nil {
		return r, err
	}
	if k = g.tags.get(key); k.digest.IsZero() || k.refusal != nil {
		return resolved{}, fmt.Errorf("%s:%s: %w", repo, tag, err)
	}
	return g.stale(repo, k), nil
}

// troubledPatience bounds the wait for the confirmation of a known tag whose source
// has just failed others: the first request waits out the bound, those that look
// whether the source is back, after each back-off, do not. A source that is back
// answers within it, or its answer counts for the next request.
const troubledPatience = 250 * time.Millisecond

// troubled reports whether the source of repo's tags failed a moment ago.
func (g *Registry) troubled(repo Repository) bool {
	if o := g.origins[repo.Name.Host]; o != nil {
		return o.troubled()
	}
	return g.bucket != nil && repo.Name.IsOwn() && !g.bucket.answers()
}

// resting reports whether the source of repo's tags is left alone now.
func (g *Registry) resting(repo Repository) bool {
	o := g.origins[repo.Name.Host]
	return o != nil && o.resting()
}

// stale is the answer while the source of a tag cannot be asked: what was last
// known of it. An image that is whole on this disk is preferred: one that is not
// could be promised and then not delivered, and some clients have then no way
// back.
func (g *Registry) stale(repo Repository, k known) resolved {
	g.staleAnswers.Add(1)
	if !k.before.IsZero() && !g.whole(k.digest) && g.whole(k.before) {
		k.digest, k.mediaType, k.size = k.before, "", 0
	}
	if repo.Name.IsOwn() {
		g.excuse(repo, k.digest)
	}
	return resolved{known: k, warning: staleWarning(repo, k.confirmed)}
}

// staleWarning is a Warning header of RFC 7234: nothing of it comes from outside.
func staleWarning(repo Repository, confirmed time.Time) string {
	who := repo.Name.Host
	if who == "" {
		who = "the bucket"
	}
	since := "the bucket has it, but it was never confirmed"
	if !confirmed.IsZero() {
		since = "last confirmed " + confirmed.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("299 - %q", who+" cannot be asked what this tag stands for; "+since)
}

// minTime returns the earlier of the two.
func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
