package registryd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"hostlocal/manifest"
)

// bucket is the Store with an eye on how it answers. All reading goes through it;
// a refusal of it is this host's trouble with its credentials, never an answer to
// a client, so that fs.ErrPermission does not come out of it. One that keeps failing
// is left alone by the Store itself, which then answers at once.
type bucket struct {
	store     Store
	questions *share
	changes   *share // pushes of manifests, deletes of tags and blobs
	removals  *share // deletes of manifests
	room      *room  // for large manifests

	mu       sync.Mutex // guards what follows; no I/O under it
	failures int        // in a row
	trouble  error      // the last of them
	since    time.Time  // of the first of them
}

// askBucket calls f and notes how it went.
func askBucket[V any](ctx context.Context, b *bucket, f func(context.Context) (V, error)) (V, error) {
	release, err := b.questions.take(ctx, b.queueing())
	if err != nil {
		var none V
		return none, err
	}
	defer release()
	start := time.Now()
	v, err := f(ctx)
	return v, b.note(ctx, start, err)
}

// change has the bucket changed with f. That it refuses is an answer to whoever
// pushes, so fs.ErrPermission does come out of it, and a failure to write says
// nothing about how the bucket answers those who read.
func (b *bucket) change(ctx context.Context, f func(context.Context) error) error {
	return b.changeIn(ctx, b.changes, shareWait, f)
}

// remove is change for the delete of a manifest, which waits for most of its time.
func (b *bucket) remove(ctx context.Context, f func(context.Context) error) error {
	return b.changeIn(ctx, b.removals, removalWait, f)
}

func (b *bucket) changeIn(ctx context.Context, places *share, wait time.Duration, f func(context.Context) error) error {
	release, err := places.take(ctx, wait)
	if err != nil {
		return err
	}
	defer release()
	err = f(ctx)
	switch {
	case err == nil:
		b.well()
	case errors.Is(err, fs.ErrPermission):
		wantToWrite(b.store)
	}
	return err
}

// queueing is how long a question waits for its turn.
func (b *bucket) queueing() time.Duration {
	if !b.answers() {
		return 0
	}
	return shareWait
}

// errSilent is a bucket that was left for the upstream, after its patience.
var errSilent = errors.New("no answer within its patience")

// note counts the outcome of a call begun at start, and returns err as the
// callers may see it. What a caller gave up says nothing about the bucket, unless
// it was silent for so long that somebody else was asked.
func (b *bucket) note(ctx context.Context, start time.Time, err error) error {
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		if time.Since(start) < b.store.Patience() {
			return err
		}
		err = fmt.Errorf("%w: %w", errSilent, err)
	}
	if errors.Is(err, errNoRoom) {
		return err // ours
	}
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("the bucket refuses: %v", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.EOF) {
		b.failures, b.trouble = 0, nil
	} else {
		if b.failures == 0 {
			b.since = time.Now()
		}
		b.failures++
		b.trouble = err
	}
	return err
}

// well notes that the bucket did what somebody else asked of it.
func (b *bucket) well() { b.note(context.Background(), time.Now(), nil) }

// answers reports whether the last call was answered.
func (b *bucket) answers() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures == 0
}

// status is how the bucket answers.
func (b *bucket) status(s *StoreStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Configured, s.Failures = true, b.failures
	if b.trouble != nil {
		s.Trouble, s.Since = b.trouble.Error(), b.since
	}
}

func (b *bucket) tag(ctx context.Context, repo, tag string) (manifest.Digest, error) {
	return askBucket(ctx, b, func(ctx context.Context) (manifest.Digest, error) { return b.store.Tag(ctx, repo, tag) })
}

func (b *bucket) exists(ctx context.Context, repo string) (bool, error) {
	return askBucket(ctx, b, func(ctx context.Context) (bool, error) { return b.store.Exists(ctx, repo) })
}

func (b *bucket) hasManifest(ctx context.Context, repo string, d manifest.Digest) (bool, error) {
	return askBucket(ctx, b, func(ctx context.Context) (bool, error) { return b.store.HasManifest(ctx, repo, d) })
}

func (b *bucket) layerLink(ctx context.Context, repo string, d manifest.Digest) (time.Duration, error) {
	return askBucket(ctx, b, func(ctx context.Context) (time.Duration, error) { return b.store.LayerLink(ctx, repo, d) })
}

func (b *bucket) statBlob(ctx context.Context, d manifest.Digest) (int64, error) {
	return askBucket(ctx, b, func(ctx context.Context) (int64, error) { return b.store.StatBlob(ctx, d) })
}

// repositories lists the bucket's. What is found before ctx ends is returned beside
// the error; that a list takes long says nothing about how the bucket answers.
func (b *bucket) repositories(ctx context.Context, after string, max int) ([]string, error) {
	start := time.Now()
	names, err := b.store.Repositories(ctx, after, max)
	if ctx.Err() == nil {
		err = b.note(ctx, start, err)
	}
	return names, err
}

// manifest reads a manifest and checks that it is the one.
func (b *bucket) manifest(ctx context.Context, repo string, d manifest.Digest) (*manifest.Manifest, error) {
	r := reservation{room: b.room}
	defer r.free()
	ctx = manifest.WithNeed(ctx, r.need)
	var body []byte
	err := r.with(ctx, func() (err error) {
		body, err = askBucket(ctx, b, func(ctx context.Context) ([]byte, error) { return b.store.Manifest(ctx, repo, d) })
		return err
	})
	if err != nil {
		return nil, err
	}
	return manifest.ParseAs(d, body)
}
