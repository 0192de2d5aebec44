package s3store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"hostlocal/manifest"
)

const (
	// stageFrom is how many bytes of a blob have landed before it is staged: two parts.
	// A smaller one is sent in the time that the copies take.
	stageFrom = 2 * minPart

	// copyRange is how much is copied in one exchange, and copiesAtOnce how many of them
	// there are: stores copy some 100 MB/s each, so that 1 GiB takes as long as 64 MiB.
	// They are more than the parts of one blob that are sent, since nothing of them comes
	// this way. With 64 MiB no copy comes near the wait for an answer.
	copyRange    = 64 << 20
	copiesAtOnce = 16 // of all blobs together
)

var (
	errThere   = errors.New("the bucket has the blob")
	errTooLong = errors.New("it has more parts than an upload may have")
)

// StageFrom returns how many bytes of a blob should have landed before StageBlob is
// called, and whether it should be at all: a bucket that did not take to it is spared
// for a while, and one that copies slowly is given only what is larger than what it was
// not worth for.
func (s *Store) StageFrom() (bytes int64, ok bool) {
	bytes, ok = s.staging.from(time.Now())
	if s.opt.StageFrom > 0 {
		bytes = s.opt.StageFrom
	}
	return bytes, ok && s.rights.writable() == nil
}

// StageBlob is PutBlob for a blob that is sent before its digest is known, which S3 wants
// as part of the key: parts go to a key of the repository's uploads, and when the digest
// has matched the store itself copies them to the blob's.
//
//	parts, as they land ──> _uploads/<id>/data ──> digest matched ──> copies ──> blobs/.../data
//
// arriving waits until so many bytes of r can be read, or until all can and their digest
// is known; it returns how many there are, and the digest then. Its error ends it.
// Nothing is made visible under a digest before arriving has named it, and nothing that is
// there is overwritten.
//
// note is called with lines to be kept, as ResumeBlob's is, before there is what they
// speak of. What a call leaves in the bucket, whatever became of it, is for AbandonBlob
// to remove by them: so nobody waits for that.
func (s *Store) StageBlob(ctx context.Context, repo, id string, r io.ReaderAt, arriving func(ctx context.Context, least int64) (size int64, d manifest.Digest, err error), note func(string)) error {
	key, err := stageKey(repo, id)
	if err != nil {
		return fmt.Errorf("staging upload %.40q: %w", id, err)
	}
	st := &stage{s: s, key: key, r: r, part: minPart, note: note, tags: map[int]string{}}
	if s.opt.StageFrom > 0 {
		st.part = s.opt.StageFrom
	}
	if err := st.run(ctx, arriving); err != nil {
		if ctx.Err() == nil {
			s.staging.failed(err, time.Now())
		}
		return fmt.Errorf("staging an upload to %s: %w", repo, err)
	}
	return nil
}

// A stage is a blob on its way under a key of its own.
type stage struct {
	s    *Store
	key  string
	r    io.ReaderAt
	part int64 // size of all parts but the last, in bytes
	note func(string)
	id   string

	begun, decided, sent time.Time // when the upload was, the digest was, and all parts were

	mu   sync.Mutex     // guards tags
	tags map[int]string // ETags of the parts that are there, by number
}

func (st *stage) run(outer context.Context, arriving func(context.Context, int64) (int64, manifest.Digest, error)) error {
	ctx, cancel := context.WithCancel(outer)
	if err := st.begin(ctx); err != nil {
		cancel()
		return err
	}
	parts, within := errgroup.WithContext(ctx)
	parts.SetLimit(partsAtOnce)
	defer parts.Wait() // nobody reads r once it has returned
	defer cancel()
	for off := int64(0); ; {
		size, d, err := arriving(within, off+st.part)
		if err == nil {
			err = within.Err() // a part has failed: none is sent behind it
		}
		if err != nil {
			cancel()
			if why := parts.Wait(); why != nil && !errors.Is(why, context.Canceled) {
				return why // which ended the wait
			}
			return sourceError{err}
		}
		for off < size && (size-off >= st.part || !d.IsZero()) && within.Err() == nil {
			number, at, n := int(off/st.part)+1, off, min(st.part, size-off)
			if number > maxParts {
				return errTooLong
			}
			parts.Go(func() error { return st.sendPart(within, number, at, n) })
			off += n
		}
		if !d.IsZero() {
			st.decided = time.Now()
			return st.finish(ctx, d, size, parts)
		}
	}
}

// begin makes the upload. It is noted before there is a part of it.
func (st *stage) begin(ctx context.Context) error {
	err := st.exchange(ctx, func(ctx context.Context) (err error) {
		st.id, err = st.s.bucket.CreateMultipart(ctx, st.key)
		return err
	})
	if err != nil {
		return err
	}
	st.begun = time.Now()
	return st.tell(staged{key: st.key, id: st.id}.begun())
}

// tell hands out a note. One that nobody would keep ends the stage.
func (st *stage) tell(note string) error {
	if len(note) > maxNote {
		return errTooLong
	}
	st.note(note)
	return nil
}

func (st *stage) sendPart(ctx context.Context, number int, off, n int64) error {
	done, err := st.s.writes.take(ctx, n)
	if err != nil {
		return err
	}
	defer done()
	return st.sized(ctx, n, func(ctx context.Context) error {
		body := newSection(st.r, off, n)
		tag, err := st.s.bucket.UploadPart(ctx, st.key, st.id, number, body, n)
		if err == nil {
			st.mu.Lock()
			st.tags[number] = tag
			st.mu.Unlock()
		}
		return body.judge(err)
	})
}

// finish has the store make the blob d of what was staged, once parts has sent all of it.
func (st *stage) finish(ctx context.Context, d manifest.Digest, size int64, parts *errgroup.Group) error {
	p := &partWrite{
		blobWrite: &blobWrite{s: st.s, d: d, key: blobKey(d), size: size},
		up:        upload{partSize: copyRange, parts: map[int]string{}},
	}
	var etag string
	both, within := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		if err := parts.Wait(); err != nil {
			return err
		}
		st.sent = time.Now()
		etag, err = st.complete(within, size)
		return err
	})
	both.Go(func() error { // meanwhile
		ok, wrong, err := p.there(within)
		switch {
		case err != nil:
			return err
		case ok:
			return errThere
		}
		p.unseen = wrong == ""
		return st.beginCopy(within, p)
	})
	switch err := both.Wait(); {
	case errors.Is(err, errThere):
		return nil
	case err != nil:
		return err
	}
	if err := st.copy(ctx, p, etag); err != nil {
		return err
	}
	if err := p.complete(ctx); err != nil {
		return err
	}
	st.s.staging.took(size, st.decided.Sub(st.begun), time.Since(st.sent), time.Now())
	st.s.trust(d)
	st.s.setAlias(d, d)
	return st.tell(staged{copyKey: p.key}.copied())
}

// complete makes an object of the parts, which can be copied.
func (st *stage) complete(ctx context.Context, size int64) (etag string, err error) {
	var parts []Part
	for _, number := range slices.Sorted(maps.Keys(st.tags)) {
		parts = append(parts, Part{Number: number, ETag: st.tags[number]})
	}
	err = st.sized(ctx, size/64, func(ctx context.Context) (err error) {
		etag, err = st.s.bucket.CompleteMultipart(ctx, st.key, st.id, parts, CompleteOptions{})
		return err
	})
	if err != nil {
		return "", err
	}
	return etag, st.tell(staged{key: st.key}.whole())
}

// beginCopy makes the upload that becomes the blob.
func (st *stage) beginCopy(ctx context.Context, p *partWrite) error {
	err := st.exchange(ctx, func(ctx context.Context) (err error) {
		p.up.id, err = st.s.bucket.CreateMultipart(ctx, p.key)
		return err
	})
	if err != nil {
		return err
	}
	return st.tell(staged{copyKey: p.key, copyID: p.up.id}.copies())
}

// copy has the parts of p made of the staged object.
func (st *stage) copy(ctx context.Context, p *partWrite, etag string) error {
	copies, within := errgroup.WithContext(ctx)
	copies.SetLimit(copiesAtOnce)
	for number, off := 1, int64(0); off < p.size && within.Err() == nil; number, off = number+1, off+copyRange {
		n := min(copyRange, p.size-off)
		copies.Go(func() error {
			if err := st.s.copies.Acquire(within, 1); err != nil {
				return err
			}
			defer st.s.copies.Release(1)
			return st.sized(within, n, func(ctx context.Context) error {
				tag, err := st.s.bucket.CopyPart(ctx, p.key, p.up.id, number, st.key, etag, off, n)
				if err == nil {
					p.mu.Lock()
					p.up.parts[number] = tag
					p.mu.Unlock()
				}
				return err
			})
		})
	}
	if err := copies.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// exchange is an exchange of which a refusal or a failure says nothing about the bucket:
// a way of sending that it need not know, under keys that it need not let us write.
func (st *stage) exchange(ctx context.Context, call func(context.Context) error) error {
	return st.sized(ctx, 0, call)
}

// sized is exchange with size bytes to be sent.
func (st *stage) sized(ctx context.Context, size int64, call func(context.Context) error) error {
	limit := writeLimit + time.Duration(size/slowestWrite)*time.Second
	for attempt := 1; ; attempt++ {
		if err := st.s.health.allow(); err != nil {
			return err
		}
		within, cancel := context.WithTimeoutCause(ctx, limit, errSilent)
		err := call(within)
		if err != nil && errors.Is(context.Cause(within), errSilent) {
			err = fmt.Errorf("%w: %w", errSilent, err)
		}
		cancel()
		if err == nil {
			return nil
		}
		wait, again := backOffAfter(err, attempt)
		if !again || ctx.Err() != nil || !st.s.retry.take() {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}
