package registryd

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/semaphore"

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
	if busy(err) {
		return busyRetry
	}
	return 0
}

// origin is an Upstream with an eye on how it answers, and a bound on what it is
// asked at once.
type origin struct {
	name      string
	up        Upstream
	questions *share // for all but fills
	room      *room  // for large manifests

	// noReferrers says of a repository until when the upstream is not asked for its
	// referrers: it has no API for them.
	noReferrers *lru.Cache[string, time.Time]

	mu      sync.Mutex // guards what follows; no I/O under it
	trouble error      // the last outage, nil after an answer
	since   time.Time  // of the first outage after an answer
	last    time.Time  // when trouble was last seen
	rests   time.Time  // until then known tags are not asked for
}

func newOrigin(name string, up Upstream, manifests *semaphore.Weighted) *origin {
	return &origin{
		name: name, up: up, room: newRoom(name, manifests), questions: newShare(name, maxQuestions),
		noReferrers: newLRU[string, time.Time](maxNoReferrers),
	}
}

// question asks the upstream with f, in its turn.
func (o *origin) question(ctx context.Context, f func() error) error {
	release, err := o.questions.take(ctx, o.queueing())
	if err != nil {
		return err
	}
	defer release()
	return f()
}

// private reports whether the upstream has been asked with credentials.
func (o *origin) private() bool {
	up, ok := o.up.(interface{ Credentialed() bool })
	return ok && up.Credentialed()
}

// queueing is how long a question waits for its turn. Behind those
// that a troubled upstream does not answer there is nothing to wait for.
func (o *origin) queueing() time.Duration {
	if o.troubled() {
		return 0
	}
	return shareWait
}

// head, manifest and tags are the Upstream's.
func (o *origin) head(ctx context.Context, repo, ref string) (desc manifest.Descriptor, err error) {
	r := reservation{room: o.room} // of use where a HEAD takes a GET
	defer r.free()
	ctx = manifest.WithNeed(ctx, r.need)
	err = r.with(ctx, func() error {
		return o.question(ctx, func() error {
			desc, err = o.up.Head(ctx, repo, ref)
			o.note(ctx, err)
			return err
		})
	})
	return desc, err
}

// manifest has the body in room that done gives back, once it is parsed.
func (o *origin) manifest(ctx context.Context, repo, ref string) (body []byte, done func(), err error) {
	r := &reservation{room: o.room}
	ctx = manifest.WithNeed(ctx, r.need)
	err = r.with(ctx, func() error {
		return o.question(ctx, func() error {
			body, _, err = o.up.Manifest(ctx, repo, ref)
			o.note(ctx, err)
			return err
		})
	})
	if err != nil {
		r.free()
		return nil, nil, err
	}
	return body, r.free, nil
}

// probe returns the size that the upstream says a blob has, -1 if it does not. It
// asks for one byte: an upstream's HEAD of a blob is answered by a redirect as often
// as by a size, and a GET is what will be wanted.
func (o *origin) probe(ctx context.Context, repo string, d manifest.Digest) (size int64, err error) {
	err = o.question(ctx, func() error {
		var body io.ReadCloser
		body, _, size, err = o.up.OpenBlob(ctx, repo, d, 0, 1)
		o.note(ctx, err)
		if err != nil {
			return err
		}
		return body.Close()
	})
	if err != nil {
		return -1, err
	}
	return size, nil
}

// openBlob opens a blob for a fill: the client itself bounds those of which it
// hears nothing.
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
	if err != nil && errors.Is(ctx.Err(), context.Canceled) || errors.Is(err, errNoRoom) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil || answered(err) || errors.Is(err, fs.ErrInvalid) {
		o.trouble, o.rests = nil, time.Time{}
		return
	}
	if o.trouble == nil {
		o.since = time.Now()
	}
	o.trouble, o.last = err, time.Now()
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
	o.last = time.Now()
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

// troubleTTL is for how long an outage is news: the next question that shows
// whether it is over comes within maxBackoff, if there are any.
const troubleTTL = 2 * maxBackoff

// troubled reports whether the upstream's last word was an outage, a moment ago.
func (o *origin) troubled() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.trouble != nil && time.Since(o.last) < troubleTTL
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
