package registryd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"hostlocal/manifest"
)

// pushedTTL is for how long a bare name that was pushed to is the bucket's own without
// the bucket being asked: it says so once there is a manifest, and the layers of a large
// image may take an hour before it.
const pushedTTL = time.Hour

// receive appends a body to the upload, as r reads it.
func (s *session) receive(b *received, r io.Reader) error {
	defer b.done()
	_, err := s.spool.ReadFrom(r)
	if s.stage != nil {
		s.stage.grow(s.size())
	}
	if errors.Is(err, errTooLarge) {
		s.cancel() // nobody can finish it
	}
	return b.failure(err)
}

// finish makes the upload, with the rest of it in b, the blob d of its repository.
//
//	body ──> spool ──> digest matched ──> bucket ──> link there ──> blob and link here
//
// Where the digest is known before the bytes are, they go to the bucket while they
// arrive; where it is not, those of a large blob do under another key (stage.go). When
// finish returns nil the bucket has all of it. When the bucket does not take it now, or
// the body breaks off, the upload stays; when it does not have the digest it is gone.
func (s *session) finish(ctx context.Context, d manifest.Digest, b *received) error {
	var x *transit
	var r io.Reader = b
	switch {
	case b.length > 0 && d.Algorithm() == manifest.SHA256 && s.stage == nil:
		x = s.sendArriving(ctx, d, s.size()+b.length)
	case b.length != 0:
		r = s.staging(b)
	}
	err := s.receive(b, r)
	if err == nil {
		err = s.check(d)
	}
	unsent := errTaken
	if x != nil {
		x.decide(err)
		unsent = x.wait()
	}
	switch {
	case errors.Is(err, manifest.ErrMismatch):
		s.cancel()
		return err
	case err != nil:
		return err
	case unsent != nil:
		unsent = s.send(ctx, d)
	}
	asked := time.Now()
	if unsent == nil {
		unsent = s.g.store().LinkLayer(ctx, s.repo.String(), d)
	}
	if unsent != nil {
		return notTaken{unsent}
	}
	s.publish(d, asked)
	return nil
}

// check hashes what came.
func (s *session) check(d manifest.Digest) error {
	got, err := s.spool.Digest(d.Algorithm())
	if err == nil && got != d {
		err = fmt.Errorf("%w: the %d bytes of the upload are %s and not %s; it was discarded: begin anew with a POST", manifest.ErrMismatch, s.size(), got, d)
	}
	return err
}

// publishPatience is how long a push that the bucket has taken waits for this host's
// disk to have it too. Until then a pull here reads it from the bucket; but a disk that
// is slower than the bucket, as those of many hosts are, does not set the pace.
const publishPatience = 200 * time.Millisecond

// publish makes the upload a blob of this host, which was linked at the time given or
// later. The bucket has it: trouble here costs a fetch later.
func (s *session) publish(d manifest.Digest, linked time.Time) {
	size := s.size()
	s.ended = true
	free, over := s.free, make(chan struct{})
	s.free = func() {} // the upload is in use until it is a blob
	commit := func(context.Context) {
		defer close(over)
		defer free()
		if err := s.spool.Commit(d); err != nil {
			s.g.log.Warn("a pushed blob is not kept on this disk; it will be read from the bucket", "repository", s.repo, "digest", d, "err", err)
		}
	}
	if !s.g.bg.run(blobWriteLimit, commit) {
		commit(nil) // a shutdown waits for requests
	}
	late := time.NewTimer(publishPatience)
	defer late.Stop()
	select {
	case <-over:
	case <-late.C:
	}
	s.g.pushedBlob(s.repo, d, size, linked)
}

// pushedBlob remembers that the bucket, asked at the time given, has a blob linked in a
// repository of its own.
func (g *Registry) pushedBlob(repo Repository, d manifest.Digest, size int64, asked time.Time) {
	name := repo.String()
	g.named.saw(name, d, size, asked)
	g.named.stored(name, d, asked)
	g.served(name, d)
	if repo.Why == whyOwnPushed {
		g.settleOwn(name, true)
		g.decide(name, true, whyOwnPushed, pushedTTL)
	}
}

// finished is nil if the bucket has d, linked in repo: a client whose PUT was answered
// when it did not listen asks again.
func (g *Registry) finished(ctx context.Context, repo Repository, d manifest.Digest) error {
	asked := time.Now()
	if err := g.bucketHasLayer(ctx, repo, d); err != nil {
		return err
	}
	size, err := g.bucket.statBlob(ctx, d)
	if err == nil {
		g.pushedBlob(repo, d, size, asked)
	}
	return err
}

// errReadOnly refuses a push before any of it is sent.
var errReadOnly error = errcode.ErrorCodeDenied.WithMessage("this host may only read the bucket: push from one that may write, or give this one's credentials the right to")

// takesPushes returns why nothing can be pushed, if that is known.
func (g *Registry) takesPushes() error {
	switch {
	case g.bucket == nil:
		return errNoBucket
	case g.writer.readOnly():
		wantToWrite(g.store())
		return errReadOnly
	}
	return nil
}

// store is the bucket for those who write: a refusal is an answer to them.
func (g *Registry) store() Store { return g.bucket.store }

// notTaken is why the bucket did not take what was pushed.
type notTaken struct{ err error }

func (e notTaken) Error() string {
	if e.refused() {
		return fmt.Sprintf("the bucket refuses it: %v", e.err)
	}
	return fmt.Sprintf("the bucket does not take it now: %v; what came is kept on this host, so send the last request again", e.err)
}

func (e notTaken) Unwrap() error { return e.err }
func (e notTaken) refused() bool { return errors.Is(e.err, fs.ErrPermission) }
