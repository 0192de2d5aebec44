package registryd

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream"
)

const (
	// maxBackoff bounds for how long an upstream that failed is not asked about a
	// tag that is known here; less where the tag's TTL is less.
	maxBackoff = 5 * time.Second

	// maxRetryAfter bounds what an upstream can ask for itself with Retry-After.
	maxRetryAfter = time.Minute
)

// answered reports whether err is what a source said, rather than its silence.
func answered(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
}

// restFor is what an outage said of its own end, at most maxRetryAfter; 0 if
// nothing.
func restFor(err error) time.Duration {
	if e, ok := errors.AsType[*upstream.Error](err); ok && !answered(err) {
		return min(max(e.RetryAfter, 0), maxRetryAfter)
	}
	return 0
}

// origin is an Upstream with an eye on how it answers.
type origin struct {
	name string
	up   Upstream

	mu      sync.Mutex // guards what follows; no I/O under it
	trouble error      // the last outage, nil after an answer
	since   time.Time  // of the first outage after an answer
	rests   time.Time  // until then known tags are not asked for
}

// head, manifest and tags are the Upstream's.
func (o *origin) head(ctx context.Context, repo, ref string) (manifest.Descriptor, error) {
	desc, err := o.up.Head(ctx, repo, ref)
	o.note(ctx, err)
	return desc, err
}

func (o *origin) manifest(ctx context.Context, repo, ref string) ([]byte, error) {
	body, _, err := o.up.Manifest(ctx, repo, ref)
	o.note(ctx, err)
	return body, err
}

func (o *origin) openBlob(ctx context.Context, repo string, d manifest.Digest, off, n int64) (io.ReadCloser, int64, int64, error) {
	body, from, size, err := o.up.OpenBlob(ctx, repo, d, off, n)
	o.note(ctx, err)
	return body, from, size, err
}

func (o *origin) tags(ctx context.Context, repo string, n int, last string) ([]string, string, error) {
	list, next, err := o.up.Tags(ctx, repo, n, last)
	o.note(ctx, err)
	return list, next, err
}

// note keeps what a call says about the upstream as a whole.
func (o *origin) note(ctx context.Context, err error) {
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil || answered(err) {
		o.trouble, o.rests = nil, time.Time{}
		return
	}
	if o.trouble == nil {
		o.since = time.Now()
	}
	o.trouble = err
	if after := restFor(err); after > 0 {
		o.rest(after)
	}
}

// late notes that a caller waited in vain: for a while the tags that are known
// are served as they are known.
func (o *origin) late(backoff time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.trouble == nil {
		o.trouble, o.since = errLate, time.Now()
	}
	o.rest(backoff)
}

// rest is called with mu held.
func (o *origin) rest(d time.Duration) {
	if until := time.Now().Add(d); until.After(o.rests) {
		o.rests = until
	}
}

// resting reports whether known tags are not asked for now.
func (o *origin) resting() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Now().Before(o.rests)
}

func (o *origin) status() UpstreamStatus {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := UpstreamStatus{Name: o.name}
	if o.trouble != nil {
		s.Trouble, s.Since = o.trouble.Error(), o.since
	}
	return s
}
