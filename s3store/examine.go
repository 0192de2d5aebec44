package s3store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"hostlocal/manifest"
)

// Manifests get into a repository without an entry among the referrers: a stock
// registry knows no such thing, and objects get lost. So each list of referrers
// reads the list of the repository's revisions, which it needs anyway to leave out
// what was removed, and looks into those manifests that nobody has looked into yet:
//
//	_referrers/examined says until when, by the bucket's clock
//	     |
//	revisions: written before? ──> has its object, if it has a subject
//	     `── since, or no such marker ──> read the manifest, write its object
//
// The bucket's own times say which are new, so that it costs nothing to know; hosts
// keep in memory which of the newest they have read. What this misses is a revision
// that appears with a time of long ago: a folder into which an old repository was
// copied with its times. Removing the marker has everything looked at again.

const (
	// slack is how far apart the bucket's times and their order may be: its clocks,
	// the length of a listing. Revisions that are newer than the marker less this are
	// looked at by each host once more.
	slack = 10 * time.Minute
	// knownFor is how long a host relies on what it knows of a repository, the marker
	// included. Somebody may have removed that.
	knownFor = time.Hour
	// maxMarker bounds the marker's length in bytes; it has 40.
	maxMarker = 256
)

// examine returns the manifests visible in repo that are about subject, with whether
// they have an object that says so, after it has looked into those that are new.
func (s *Store) examine(ctx context.Context, repo string, subject manifest.Digest) (map[manifest.Digest]bool, error) {
	e := s.referrers.repos.get(repo)
	var found map[manifest.Digest]bool
	// Once is the rule. It is begun anew when manifests were looked into meanwhile,
	// here or in another call: their objects are not in the list.
	for range maxContests {
		before := e.changes()
		stored, err := s.storedReferrers(ctx, repo, subject)
		if err != nil {
			return nil, err
		}
		p, err := s.passRevisions(ctx, repo, subject, e, stored)
		if err != nil {
			return nil, err
		}
		found = p.found
		if len(p.unknown) == 0 {
			s.mark(ctx, repo, e, p)
			if e.changes() == before {
				break
			}
		}
		if err := s.lookInto(ctx, repo, subject, e, p.unknown); err != nil {
			return nil, err
		}
	}
	s.referrers.repos.trim()
	return found, nil
}

// A pass is what one reading of a repository's revisions brought.
type pass struct {
	found   map[manifest.Digest]bool      // the referrers asked for that are visible: have they an object?
	unknown map[manifest.Digest]time.Time // those to look into, with the time of their link
	newest  time.Time                     // of all links
	took    time.Duration
}

func (s *Store) passRevisions(ctx context.Context, repo string, subject manifest.Digest, e *examination, stored map[manifest.Digest]bool) (*pass, error) {
	root, err := repoKey(repo, "_manifests/revisions/")
	if err != nil {
		return nil, err
	}
	p := &pass{found: map[manifest.Digest]bool{}, unknown: map[manifest.Digest]time.Time{}}
	start := time.Now()
	err = s.eachObject(ctx, root, func(o Object) error {
		d, ok := digestAt(strings.TrimPrefix(o.Key, root), "/link")
		if !ok {
			return nil
		}
		if p.newest.IsZero() { // the first: there is something to know
			if err := s.readMarker(ctx, repo, e); err != nil {
				return err
			}
		}
		if p.newest.Before(o.Modified) {
			p.newest = o.Modified
		}
		switch {
		case stored[d]:
			p.found[d] = true
			if !e.knows(d, o.Modified) {
				e.saw(d, o.Modified)
			}
		case !e.knows(d, o.Modified):
			p.unknown[d] = o.Modified
		case e.unwritten(subject, d):
			p.found[d] = false
		}
		if len(p.unknown) > maxNames {
			return errTooMuch
		}
		return nil
	})
	p.took = time.Since(start)
	return p, err
}

// lookInto reads the manifests and writes the objects of those that have a subject.
// One call a repository does that at a time. What is about the one that is asked for
// is kept in memory, too.
func (s *Store) lookInto(ctx context.Context, repo string, asked manifest.Digest, e *examination, unknown map[manifest.Digest]time.Time) error {
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(smallReads)
	for d, modified := range unknown {
		if within.Err() != nil {
			break
		}
		if e.knows(d, modified) {
			continue // by the call that had the turn before
		}
		g.Go(func() error {
			subject, desc, err := s.subjectOf(within, repo, d)
			if err != nil {
				return err
			}
			if !subject.IsZero() && !s.noteReferrer(within, repo, subject, desc) {
				e.keep(subject, d)
			}
			if key, err := referrerKey(repo, subject, d); subject == asked && err == nil {
				s.referrers.cache.add(key, desc)
			}
			e.note(d, modified)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err() // it may have ended between two manifests
}

// A marker is what _referrers/examined holds.
type marker struct {
	Examined time.Time `json:"examined"` // all revisions that are older, and not by slack only, have their object
}

// readMarker reads it, unless it was read lately. One that says nothing, or is ahead
// of the bucket's own clock, is none.
func (s *Store) readMarker(ctx context.Context, repo string, e *examination) error {
	if !e.stale() {
		return nil
	}
	key, err := examinedKey(repo)
	if err != nil {
		return err
	}
	var m marker
	body, obj, err := s.load(ctx, key, maxMarker)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errTooLarge):
	case err != nil:
		return fmt.Errorf("the marker: %w", err)
	case json.Unmarshal(body, &m) != nil, !obj.Date.IsZero() && m.Examined.After(obj.Date.Add(slack)):
		m = marker{}
	}
	e.begin(m.Examined)
	return nil
}

// mark draws the conclusion from a pass that found nothing unknown, and tells the
// other hosts when that spares them something.
func (s *Store) mark(ctx context.Context, repo string, e *examination, p *pass) {
	if p.newest.IsZero() || p.took > slack/2 {
		return
	}
	if !e.advance(p.newest) || s.rights.writable() != nil || s.changeable(repo) != nil {
		return
	}
	key, err := examinedKey(repo)
	if err != nil {
		return
	}
	body, err := json.Marshal(marker{Examined: p.newest.UTC()})
	if err == nil {
		err = s.putSmall(ctx, key, body)
	}
	if err != nil {
		s.log.Debug("which manifests were searched for subjects is not noted in the bucket", "repository", repo, "err", err)
		return
	}
	e.marked(p.newest)
}
