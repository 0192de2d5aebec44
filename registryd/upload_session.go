package registryd

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"hostlocal/blobcache"
)

const (
	// busyPatience is how long a request waits for another one of the same upload. A
	// client that was cut off comes again before this host has read what is left of
	// its first connection; two that send to one upload by mistake hear of it soon.
	busyPatience = 2 * time.Second

	// maxUpload bounds one upload in bytes: 1 TiB. It is some ten times the largest
	// layers that are known (models), and a fifth of what S3 takes as one object. The
	// cache's budget is the nearer bound on most hosts.
	maxUpload = 1 << 40
)

// What is wrong with an upload that is asked for.
var (
	errNoUpload    error = errcode.ErrorCodeBlobUploadUnknown.WithMessage("there is no such upload on this host: it was finished, canceled, or nothing came for a day; begin anew with a POST")
	errUploadInUse       = errors.New("another request is at this upload: wait until it has ended, then ask with a GET how far the upload has come")
)

// newUploadID makes an id that nobody guesses.
func newUploadID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// spoolName is the name of an upload's file: it binds the id to its repository, and
// lets nothing that a client sends near the disk.
func spoolName(repo, id string) string {
	sum := sha256.Sum256([]byte(repo + "\x00" + id))
	return hex.EncodeToString(sum[:])
}

// A session is one request's hold on an upload. Close it: what has come stays, for the
// next request, unless finish or cancel ended the upload.
type session struct {
	g     *Registry
	repo  Repository
	id    string
	spool spooled
	stage *stage // nil: nothing of it is sent before its digest is known
	free  func()
	ended bool // committed or aborted
}

// size is how many bytes have come.
func (s *session) size() int64 { return s.spool.Size() }

// cancel ends the upload.
func (s *session) cancel() {
	if !s.ended {
		s.ended = true
		s.dropStage()
		s.spool.Abort()
	}
}

// close ends the hold.
func (s *session) close() {
	if !s.ended {
		s.ended = true
		if err := s.spool.Close(); err != nil {
			s.g.log.Warn("an upload may not survive a restart", "repository", s.repo, "err", err)
		}
	}
	s.free()
}

// newUpload begins an upload to a repository of the bucket's own.
func (g *Registry) newUpload(ctx context.Context, repo Repository) (*session, error) {
	if err := g.takesPushes(); err != nil {
		return nil, err
	}
	id := newUploadID()
	name := spoolName(repo.String(), id)
	u, err := g.open.take(ctx, name)
	if err != nil {
		return nil, err
	}
	sp, err := g.spool.NewUpload(name)
	if err != nil {
		g.open.free(name, u)
		return nil, fmt.Errorf("beginning an upload to %s: %w", repo, err)
	}
	return g.session(repo, id, name, u, sp), nil
}

// openUpload goes on with an upload, alone. It waits a little for whoever is at it.
func (g *Registry) openUpload(ctx context.Context, repo Repository, id string) (*session, error) {
	name := spoolName(repo.String(), id)
	u, err := g.open.take(ctx, name)
	if err != nil {
		return nil, err
	}
	sp, err := g.spool.OpenUpload(name)
	if err != nil {
		g.open.free(name, u)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, errNoUpload
		case errors.Is(err, blobcache.ErrUploadBusy):
			return nil, errUploadInUse
		}
		return nil, fmt.Errorf("opening an upload to %s: %w", repo, err)
	}
	return g.session(repo, id, name, u, sp), nil
}

func (g *Registry) session(repo Repository, id, name string, u *openUpload, sp spooled) *session {
	g.open.mu.Lock()
	u.spool = sp
	g.open.mu.Unlock()
	return &session{g: g, repo: repo, id: id, spool: sp, stage: g.staged.get(name), free: func() { g.open.free(name, u) }}
}

// uploadSize is how far an upload has come. One that somebody keeps sending to is
// not waited for longer than busyPatience.
func (g *Registry) uploadSize(ctx context.Context, repo Repository, id string) (int64, error) {
	s, err := g.openUpload(ctx, repo, id)
	if errors.Is(err, errUploadInUse) {
		if size, ok := g.open.size(spoolName(repo.String(), id)); ok {
			return size, nil
		}
	}
	if err != nil {
		return 0, err
	}
	defer s.close()
	return s.size(), nil
}

// openUploads are the uploads that a request is at, by their names: one each.
type openUploads struct {
	mu sync.Mutex // guards by and what is in it; no I/O under it
	by map[string]*openUpload
}

type openUpload struct {
	spool spooled       // nil: not opened yet
	over  chan struct{} // closed when it is free again
}

func newOpenUploads() *openUploads { return &openUploads{by: map[string]*openUpload{}} }

// take waits until nobody else is at an upload, for busyPatience.
func (o *openUploads) take(ctx context.Context, name string) (*openUpload, error) {
	var late <-chan time.Time
	for {
		o.mu.Lock()
		other, busy := o.by[name]
		if !busy {
			u := &openUpload{over: make(chan struct{})}
			o.by[name] = u
			o.mu.Unlock()
			return u, nil
		}
		o.mu.Unlock()
		if late == nil {
			t := time.NewTimer(busyPatience)
			defer t.Stop()
			late = t.C
		}
		select {
		case <-other.over:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late:
			return nil, errUploadInUse
		}
	}
}

func (o *openUploads) free(name string, u *openUpload) {
	o.mu.Lock()
	delete(o.by, name)
	o.mu.Unlock()
	close(u.over)
}

// size is how far an upload has come that somebody is at.
func (o *openUploads) size(name string) (int64, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	u, ok := o.by[name]
	if !ok || u.spool == nil {
		return 0, false
	}
	return u.spool.Size(), true
}
