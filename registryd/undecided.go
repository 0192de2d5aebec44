package registryd

import (
	"context"
	"errors"
	"net/http"
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

// head answers a HEAD of a manifest or a blob where pushes are taken: whoever sends it
// may be about to push.
//
//go:noinline
func (h *Handler) head(w *response, r *http.Request, t target) error {
	ns, err := namespace(r.URL.RawQuery)
	if err != nil {
		return err
	}
	repo, err := h.contents.Resolve(r.Context(), t.name, ns)
	if err != nil {
		return err
	}
	before := h.push.allow(r) == nil && repo.hasten()
	if t.route == routeManifest {
		err = h.manifest(w, r, t, repo)
	} else {
		err = h.blob(w, r, t, repo)
	}
	if err != nil && before {
		return beforePush(t.route, err)
	}
	return err
}

// beforePush is what a HEAD about a bare name that is not the bucket's own yet is
// answered with instead of err, if somebody sent it who may push. All clients ask for
// the blobs and the manifest of what they are going to push, and end the push if there
// is no answer: where the upstream cannot be asked, in a network without one, that
// would be always. So an outage of it is a no to them, and soon; who only wants to pull
// takes it for one too, and turns to his hub. A GET keeps its 503: docker turns to its
// hub only then.
func beforePush(rt route, err error) error {
	if status, _ := answerTo(err, rt); status < http.StatusInternalServerError {
		return err
	}
	return unknown(rt).WithMessage("the bucket has no such repository, and its upstream cannot be asked: it can be pushed here; " + plain(err))
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
