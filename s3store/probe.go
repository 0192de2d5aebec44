package s3store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	mathrand "math/rand/v2"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// probeAgain is how soon a probe that got no answer is repeated.
	probeAgain = 15 * time.Second
	// probeRefused is how soon a bucket that may not be written is tried again:
	// often enough for a person who mends the credentials, and some $2 a day for
	// 5,000 hosts that are meant to be refused.
	probeRefused = 10 * time.Minute
	// probeWanted is the same while somebody wants to write: a refusal may have been
	// a quota that was raised, or credentials that were changed, and whoever pushes
	// tries a few times within half a minute.
	probeWanted = 10 * time.Second
	// probeRacers is how many create one object at once. A store that looks and
	// then writes is caught by few.
	probeRacers = 4
)

// explore finds out what the bucket lets this host do, and again when that seems
// to have changed. It runs behind the calls until the Store is closed.
func (s *Store) explore() {
	for {
		var again <-chan time.Time
		if err := s.probe(s.ctx); err != nil {
			again = time.After(jitter(probeAgain))
		} else if s.rights.writable() != nil {
			again = time.After(jitter(probeRefused))
		}
		select {
		case <-s.rights.wanted: // before there was anything to be wanted
		default:
		}
		if again == nil {
			select {
			case <-s.ctx.Done():
				return
			case <-s.rights.changed:
				again = time.After(jitter(probeRefused))
			}
		}
		select {
		case <-s.ctx.Done():
			return
		case <-again:
		case <-s.rights.wanted:
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(jitter(probeWanted)):
			}
		}
	}
}

// WantToWrite has a bucket that refused to be written be tried again soon: somebody
// is there to whom it matters.
func (s *Store) WantToWrite() {
	select {
	case s.rights.wanted <- struct{}{}:
	default:
	}
}

// jitter spreads a fleet's timers over a quarter of their length.
func jitter(d time.Duration) time.Duration { return d + mathrand.N(d/4) }

// probe tries each ability with real calls, below registryd/probe/ only. It
// returns an error if the bucket could not be asked, or does not know us. A support matrix would be
// cheaper and wrong: stores ignore conditions silently.
func (s *Store) probe(ctx context.Context) error {
	base := probeRoot + rand.Text()
	if err := s.probeRead(ctx, base); outage(err) {
		return err
	}
	body := []byte(base)
	key := base + "-a"
	err := s.bounded(ctx, func(ctx context.Context) error {
		_, err := s.bucket.Put(ctx, key, bytes.NewReader(body), int64(len(body)), PutOptions{})
		return err
	})
	switch {
	case badCredentials(err):
		return s.stranger(err)
	case errors.Is(err, fs.ErrPermission):
		s.refused(err)
		return nil
	case outage(err):
		return err
	case err != nil:
		s.log.Warn("the bucket refuses to be written", "err", err)
		return nil
	}
	s.rights.mu.Lock()
	back := s.rights.write == No
	s.rights.write, s.rights.refusal = Yes, ""
	s.rights.mu.Unlock()
	if back {
		s.log.Info("the bucket may be written by this host")
	}
	defer func() {
		s.staging.tried(s.bounded(ctx, func(ctx context.Context) error { return s.bucket.Delete(ctx, key) }))
	}()
	put, err := s.probePut(ctx, base+"-b")
	if err != nil {
		return err
	}
	complete, err := s.probeComplete(ctx, key)
	if err != nil {
		return err
	}
	s.rights.mu.Lock()
	defer s.rights.mu.Unlock()
	if (put == No && s.rights.put != No) || (complete == No && s.rights.complete != No) {
		s.log.Warn("the bucket does not keep conditional writes apart; what hosts write at once is written twice", "put", put, "complete", complete)
	}
	s.rights.put, s.rights.complete = put, complete
	return nil
}

// bounded makes one attempt of a call that belongs to the probe.
func (s *Store) bounded(ctx context.Context, call func(context.Context) error) error {
	if err := s.health.allow(); err != nil {
		return err
	}
	return s.attempt(ctx, answerLimit, call)
}

// probeRead looks at an object that cannot be there. GET, since a HEAD's refusal
// has no body to say why.
func (s *Store) probeRead(ctx context.Context, key string) error {
	err := s.bounded(ctx, func(ctx context.Context) error {
		body, _, err := s.bucket.Get(ctx, key, 0, -1, "")
		if err == nil {
			body.Close()
		}
		return err
	})
	switch {
	case outage(err):
		return err
	case badCredentials(err):
		return s.stranger(err)
	}
	listErr := s.bounded(ctx, func(ctx context.Context) error {
		_, err := s.bucket.List(ctx, reposRoot, "/", "", 1)
		return err
	})
	if outage(listErr) {
		return listErr
	}
	s.rights.mu.Lock()
	defer s.rights.mu.Unlock()
	s.rights.hidesMisses = errors.Is(err, fs.ErrPermission)
	s.rights.list = Yes
	if listErr != nil {
		s.rights.list = No
	}
	return nil
}

// probePut has several create one object, and demands that one succeeds and the
// others are told so.
func (s *Store) probePut(ctx context.Context, key string) (Verdict, error) {
	errs := make([]error, probeRacers)
	var g errgroup.Group
	for i := range errs {
		g.Go(func() error {
			body := []byte(rand.Text())
			errs[i] = s.bounded(ctx, func(ctx context.Context) error {
				_, err := s.bucket.Put(ctx, key, bytes.NewReader(body), int64(len(body)), PutOptions{IfNoneMatch: true})
				return err
			})
			return nil
		})
	}
	g.Wait()
	s.bounded(ctx, func(ctx context.Context) error { return s.bucket.Delete(ctx, key) })
	won, lost := 0, 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case errors.Is(err, ErrPrecondition):
			lost++
		case outage(err):
			return Unknown, err
		}
	}
	if won == 1 && lost == probeRacers-1 {
		return Yes, nil
	}
	return No, nil
}

// probeComplete completes an upload onto an object that is there, and demands to
// be refused.
func (s *Store) probeComplete(ctx context.Context, key string) (Verdict, error) {
	var id, tag string
	err := s.bounded(ctx, func(ctx context.Context) (err error) {
		id, err = s.bucket.CreateMultipart(ctx, key)
		return err
	})
	if err != nil {
		return s.unproven(err)
	}
	body := []byte("part")
	err = s.bounded(ctx, func(ctx context.Context) (err error) {
		tag, err = s.bucket.UploadPart(ctx, key, id, 1, bytes.NewReader(body), int64(len(body)))
		return err
	})
	if err == nil {
		s.staging.tried(s.bounded(ctx, func(ctx context.Context) error {
			_, err := s.bucket.CopyPart(ctx, key, id, 2, key, "", 0, int64(len(body)))
			return err
		}))
		err = s.bounded(ctx, func(ctx context.Context) error {
			_, err := s.bucket.CompleteMultipart(ctx, key, id, []Part{{Number: 1, ETag: tag}}, CompleteOptions{IfNoneMatch: true})
			return err
		})
	}
	switch {
	case err == nil:
		return No, nil
	case errors.Is(err, ErrPrecondition):
		s.abort(key, id)
		return Yes, nil
	}
	s.abort(key, id)
	return s.unproven(err)
}

// unproven is the verdict on what could not be tried: only a store that says that
// it does not know the request is a No.
func (s *Store) unproven(err error) (Verdict, error) {
	if outage(err) {
		return Unknown, err
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusNotImplemented {
		return No, nil
	}
	return Unknown, nil
}
