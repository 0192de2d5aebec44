package registryd

import (
	"context"
	"errors"
	"time"

	"hostlocal/manifest"
)

// A bare name that the bucket does not have is the default upstream's, until
// somebody pushes to it, through any host. What is pushed is to be seen everywhere
// at once, and the bucket is not asked about each name each time: so it is asked
// again where the upstream has nothing to give.
//
//	upstream answers ────────────────────────────> serve
//	upstream says no, or cannot be asked:
//	    the bucket said no to this request ──────> that
//	    it said no before, and says yes now ─────> it is own: ask the bucket for it
//	    it says no again, or cannot be asked ────> that

// bare reports whether repo is the default upstream's only as long as nobody pushes to
// that name. It is its Why that tells: one field more and a Repository would be on the
// stack of every answer, many times.
func (r Repository) bare() bool {
	switch r.Why {
	case whyNotOwnAnswered, whyNotOwnLately, whyNotOwnRemembered, whyPushNow, whyPushLately:
		return true
	}
	return false
}

const (
	whyPushNow    = whyNotOwnAnswered + ", and who asks may be about to push to it"
	whyPushLately = whyNotOwnLately + ", and who asks may be about to push to it"
)

// hasten has whoever asks about a bare name hear soon that its upstream cannot be
// asked, rather than wait for it. It reports whether it did: the bucket has to have
// said that the name is free.
func (r *Repository) hasten() bool {
	switch r.Why {
	case whyNotOwnAnswered:
		r.Why = whyPushNow
	case whyNotOwnLately:
		r.Why = whyPushLately
	}
	return r.hurry()
}

func (r Repository) hurry() bool { return r.Why == whyPushNow || r.Why == whyPushLately }

// becameOwn returns the bucket's own repository by the name of repo, if that is what
// is meant by it now. err is why there is no answer from the upstream, nil if there is
// one.
func (g *Registry) becameOwn(ctx context.Context, repo Repository, err error) (Repository, bool) {
	if err == nil || !repo.bare() || ctx.Err() != nil {
		return repo, false
	}
	if o := g.origins[repo.Name.Host]; o != nil && repo.hurry() && errors.Is(err, context.DeadlineExceeded) {
		o.late(alwaysBackoff) // the next of its kind does not wait as long
	}
	if repo.Why == whyNotOwnAnswered || repo.Why == whyPushNow {
		return repo, false
	}
	name, asked := repo.Name.Path, time.Now()
	until := asked.Add(pick(g.bucket.answers(), tagLimit, troubledPatience))
	older := func(own bool, err error) bool { return err == nil && !own }
	own, err := g.existence.since(ctx, asked, until, name, older, g.exists(name))
	if err != nil || !own {
		return repo, false
	}
	return newRepository(manifest.Name{Path: name}, whyOwnAnswered), true
}

// limit bounds the wait for an answer about repo.
func (g *Registry) limit(repo Repository) time.Duration {
	switch {
	case !repo.hurry():
		return answerLimit
	case g.troubled(repo):
		return troubledPatience
	}
	return tagLimit
}
