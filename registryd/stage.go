package registryd

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"sync"
	"time"

	"hostlocal/manifest"
)

// A StagingStore is a Store that takes the bytes of a blob before its digest is known, as
// docker and podman push them: it has most of them when they have all come.
type StagingStore interface {
	ResumingStore
	// StageFrom returns how many bytes of a blob should have landed for StageBlob to be
	// worth it, and whether it is at all.
	StageFrom() (bytes int64, ok bool)
	// StageBlob stores the blob that r gives, by the digest that arriving has in the end:
	// success is PutBlob's. arriving waits until so many bytes can be read, or the digest
	// is known. note is called with lines to be kept, by which AbandonBlob removes what
	// it leaves in the bucket, also when it succeeds.
	StageBlob(ctx context.Context, repo, id string, r io.ReaderAt, arriving func(ctx context.Context, least int64) (size int64, d manifest.Digest, err error), note func(string)) error
}

// maxStages bounds the uploads that are staged at once: each has a file open, and some
// goroutines. Others are sent when they are all here.
const maxStages = 64

// What ends a stage.
var (
	errIdle        = errors.New("nothing came of it for too long")
	errOtherDigest = errors.New("it was staged as another digest")
)

// A stage sends an upload to the bucket while it is still coming, over as many requests as
// it takes, and none of them waits for it but the last:
//
//	PATCH ──> spool ──> parts ──> a key of the upload's own      PUT ──> digest matched ──> the store copies
//
// It reads the spool's file by itself, and ends when the blob is in the bucket, when the
// upload does, when nothing came for a while, or when the bucket does not take to it:
// then the upload is sent from the spool as if there had been none.
type stage struct {
	file   *os.File
	idle   time.Duration
	cancel context.CancelFunc
	over   chan struct{} // closed at its end
	err    error         // to be read after that: nil if the bucket has the blob

	mu      sync.Mutex      // guards what follows; no I/O under it
	size    int64           // bytes that have landed
	grew    time.Time       // when some did last
	least   int64           // bytes that are waited for
	digest  manifest.Digest // of all bytes, once it matched
	changed chan struct{}   // closed and replaced when one of them is there
}

// grow says how many bytes have landed.
func (st *stage) grow(size int64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if size > st.size {
		st.size, st.grew = size, time.Now()
		if size >= st.least {
			st.tell()
		}
	}
}

// decide says that size bytes are all, and that their digest is d. It is too late where
// they were found to have another one.
func (st *stage) decide(d manifest.Digest, size int64) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.digest.IsZero() && st.digest != d {
		return errOtherDigest
	}
	st.digest, st.size = d, size
	st.tell()
	return nil
}

// tell wakes the sender. The caller holds mu.
func (st *stage) tell() {
	close(st.changed)
	st.changed = make(chan struct{})
}

// arriving waits until there are so many bytes, or all.
func (st *stage) arriving(ctx context.Context, least int64) (int64, manifest.Digest, error) {
	late := time.NewTimer(st.idle)
	defer late.Stop()
	for {
		st.mu.Lock()
		st.least = least
		size, d, grew, changed := st.size, st.digest, st.grew, st.changed
		st.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return size, d, ctx.Err()
		case size >= least || !d.IsZero():
			return size, d, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return size, d, ctx.Err()
		case <-late.C:
			rest := st.idle - time.Since(grew)
			if rest <= 0 {
				return size, d, errIdle
			}
			late.Reset(rest)
		}
	}
}

// stages are those of this host, by the names of their spools.
type stages struct {
	mu sync.Mutex // guards by
	by map[string]*stage
}

func newStages() *stages { return &stages{by: map[string]*stage{}} }

func (s *stages) get(name string) *stage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by[name]
}

// add enters a stage, unless there are too many.
func (s *stages) add(name string, st *stage) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.by) >= maxStages {
		return false
	}
	s.by[name] = st
	return true
}

func (s *stages) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.by, name)
}

// staging is the body b of an upload whose digest is not known yet. While it is read, what
// has landed of the upload is staged.
func (s *session) staging(b io.Reader) io.Reader {
	if s.stage == nil {
		store, ok := s.g.store().(StagingStore)
		if !ok {
			return b
		}
		from, ok := store.StageFrom()
		if !ok {
			return b
		}
		return &stager{b, s, store, from}
	}
	return &stager{b, s, nil, math.MaxInt64}
}

type stager struct {
	io.Reader
	s     *session
	store StagingStore
	from  int64 // bytes beyond which there is a stage
}

// Read implements io.Reader.
func (r *stager) Read(p []byte) (int, error) {
	switch size := r.s.size(); {
	case r.s.stage != nil:
		r.s.stage.grow(size)
	case size > r.from:
		r.from = math.MaxInt64 // once
		r.s.beginStage(r.store)
	}
	return r.Reader.Read(p)
}

// beginStage begins to send what is here of the upload. What is in the way costs the
// stage, and nothing else.
func (s *session) beginStage(store StagingStore) {
	g, name := s.g, spoolName(s.repo.String(), s.id)
	file, err := s.spool.Reopen()
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(g.bg.ctx)
	st := &stage{file: file, idle: g.writer.abandonAfter, cancel: cancel, over: make(chan struct{}),
		size: s.size(), grew: time.Now(), changed: make(chan struct{})}
	if !g.staged.add(name, st) {
		cancel()
		file.Close()
		return
	}
	end := func(err error) {
		file.Close()
		g.staged.remove(name)
		st.err = err
		cancel()
		close(st.over)
	}
	repo, id := s.repo.String(), s.id
	// Its name has the form of a digest, so that what is noted of it lies beside what is
	// noted of blobs.
	key := manifest.MustDigest("sha256:" + name)
	if !g.bg.run(math.MaxInt64, func(context.Context) {
		err := g.writer.stage(ctx, key, func(ctx context.Context, note func(string)) error {
			return store.StageBlob(ctx, repo, id, file, st.arriving, note)
		})
		if err != nil && ctx.Err() == nil {
			g.log.Debug("an upload is sent when all of it is here", "repository", repo, "err", err)
		}
		end(err)
	}) {
		end(errClosed)
		return
	}
	s.stage = st
}

// dropStage ends the upload's stage: its bytes are wrong, or nobody wants them.
func (s *session) dropStage() {
	if s.stage != nil {
		s.stage.cancel()
		<-s.stage.over // it has let go of the file
	}
}

// send gives the bucket the upload, all of which is here and is d: what was staged of it
// is there already.
func (s *session) send(ctx context.Context, d manifest.Digest) error {
	if s.stage != nil {
		err := s.g.writer.settle(ctx, s.stage, d, s.size())
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return s.g.writer.push(ctx, d, s.size(), s.landed, false)
}
