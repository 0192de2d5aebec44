package registryd

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"hostlocal/blobcache"
	"hostlocal/manifest"
)

// A hold is one caller's hold on a blob, as blobcache.Blob is: all of it if it is
// complete, in memory or as a file, or else the bytes as they land.
type hold interface {
	Bytes() []byte
	File() *os.File
	CopyRange(ctx context.Context, w io.Writer, off, n int64) error
	Size() int64
	Source() string
	Close() error
}

var _ hold = (*blobcache.Blob)(nil)

// A contents is what the API has to offer. It is Registry, method by method, but
// for the type of a blob: the tests put faults between.
type contents interface {
	reading
	writing
}

// reading is what pulls need.
type reading interface {
	Resolve(ctx context.Context, path, ns string) (Repository, error)
	Manifest(ctx context.Context, repo Repository, ref Ref, headOnly bool) (Answer, error)
	Blob(ctx context.Context, repo Repository, d manifest.Digest, off int64, ranged bool) (hold, error)
	StatBlob(ctx context.Context, repo Repository, d manifest.Digest) (size int64, source string, err error)
	Tags(ctx context.Context, repo Repository, n int, last string) (tags []string, more bool, err error)
	Referrers(ctx context.Context, repo Repository, subject manifest.Digest) (Referrals, error)
	Catalog(ctx context.Context, n int, last string) (names []string, more bool, err error)
}

// writing is what pushes and deletes need beyond that.
type writing interface {
	ResolvePush(path, ns string) (Repository, error)
	newUpload(ctx context.Context, repo Repository) (*session, error)
	openUpload(ctx context.Context, repo Repository, id string) (*session, error)
	uploadSize(ctx context.Context, repo Repository, id string) (int64, error)
	finished(ctx context.Context, repo Repository, d manifest.Digest) error
	mount(ctx context.Context, repo Repository, from *Repository, d manifest.Digest) bool
	takesPushes() error
	PutManifest(ctx context.Context, repo Repository, p Put) (*manifest.Manifest, error)
	DeleteTag(ctx context.Context, repo Repository, tag string) error
	DeleteManifest(ctx context.Context, repo Repository, d manifest.Digest) (tags []string, err error)
	DeleteBlob(ctx context.Context, repo Repository, d manifest.Digest) error
}

// registryContents is a Registry as contents.
type registryContents struct{ *Registry }

func (g registryContents) Blob(ctx context.Context, repo Repository, d manifest.Digest, off int64, ranged bool) (hold, error) {
	b, err := g.blobOf(ctx, repo, d, off, ranged)
	if err != nil && repo.bare() {
		b, err = g.blobAgain(ctx, &repo, d, off, ranged, err)
	}
	if err != nil {
		return nil, err // not b: a nil *Blob in a hold would not be nil
	}
	return b, nil
}

// HandlerOptions says how a Handler reports. The zero value serves and says
// nothing.
type HandlerOptions struct {
	Metrics *Metrics     // nil: counted for nobody
	Access  *slog.Logger // a line for each request at level debug; nil: none
	// Names are further names of this host, beside its addresses and host name.
	Names []string
	// Stall is how long a client may take none of its answer; 0: StallLimit.
	Stall time.Duration
	// Push says whose pushes and deletes are taken.
	Push Push
	// Events hears of pushes, deletes and pulls; nil: nobody does.
	Events Events
}

// A Handler is the distribution API over a Registry. It is an http.Handler and
// starts no goroutines.
type Handler struct {
	contents contents
	metrics  *Metrics
	access   *slog.Logger
	stall    time.Duration
	push     Push
	events   Events // nil: nobody listens
	pages    pages

	manifests, blobs headerCache
	pool             sync.Pool // of *response
}

// NewHandler returns the API over g.
func NewHandler(g *Registry, o HandlerOptions) *Handler {
	return newHandler(registryContents{g}, o)
}

func newHandler(c contents, o HandlerOptions) *Handler {
	h := &Handler{contents: c, metrics: o.Metrics, access: o.Access, stall: o.Stall, push: o.Push, events: o.Events, pages: newPages(o.Names), manifests: newHeaderCache(), blobs: newHeaderCache()}
	if h.metrics == nil {
		h.metrics = NewMetrics(nil)
	}
	if h.stall <= 0 {
		h.stall = StallLimit
	}
	h.pool.New = func() any { return new(response) }
	return h
}

// What has nothing to do with any content. They are made once, and not where they
// are returned: an error of this type takes as much of the stack as a request
// does.
var (
	errPage    error = errcode.ErrorCodeDenied.WithMessage("this registry does not answer web pages; if you are none, ask by an address, or add this host's name to \"names\" in the configuration")
	errMethod  error = errcode.ErrorCodeUnsupported.WithMessage("this method does nothing here")
	errNothing error = errcode.ErrorCodeNameUnknown.WithMessage("nothing is here; the registry API is under /v2/")
)

// ServeHTTP implements http.Handler. It panics with http.ErrAbortHandler where
// the connection has to be broken: net/http's own way to say so.
func (h *Handler) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w := h.pool.Get().(*response)
	w.reset(rw, h.stall, time.Now())
	w.conn, _ = r.Context().Value(connKey{}).(*conn)
	t, err := parseTarget(r.URL.Path, r.URL.RawPath)
	defer h.done(w, r, t) // runs for a broken connection too
	switch {
	case h.pages.sent(r):
		err = errPage
	case err != nil:
	case t.route != routeUpload && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		refuseBody(w, r)
		err = h.read(w, r, t)
	default:
		err = h.write(w, r, t)
	}
	if err != nil {
		refuseBody(w, r)
		h.fail(w, r, t.route, err)
	}
}

// hasBody reports whether something follows the headers of a request.
func hasBody(r *http.Request) bool { return r.Body != nil && r.Body != http.NoBody }

// done counts and logs the request, and gives w back.
func (h *Handler) done(w *response, r *http.Request, t target) {
	h.metrics.finished(w, t.route)
	h.logAccess(w, r, t)
	*w = response{}
	h.pool.Put(w)
}

// bodyLimit is how long a body that nobody asked for may take to arrive before
// the connection is closed: net/http reads a little of it before the next
// request, and would wait for it for ever.
const bodyLimit = 2 * time.Second

// refuseBody ends the connection after this answer if there is a body, for what is left
// of it that nobody is going to read.
func refuseBody(w *response, r *http.Request) {
	if !hasBody(r) {
		return
	}
	w.Header().Set("Connection", "close")
	if d, ok := w.ResponseWriter.(interface{ SetReadDeadline(time.Time) error }); ok {
		d.SetReadDeadline(time.Now().Add(bodyLimit)) // fails on a dead connection only
	}
}

// read answers a GET or a HEAD. An error that it returns has not been answered.
func (h *Handler) read(w *response, r *http.Request, t target) error {
	switch t.route {
	case routeBase:
		return writeJSON(w, SourceDisk, struct{}{})
	case routeOther:
		return errNothing
	case routeManifest, routeBlob:
		if r.Method == http.MethodHead {
			return h.head(w, r, t)
		}
	}
	ns, err := namespace(r.URL.RawQuery)
	if err != nil {
		return err
	}
	if t.route == routeCatalog {
		return h.catalog(w, r)
	}
	repo, err := h.contents.Resolve(r.Context(), t.name, ns)
	if err != nil {
		return err
	}
	switch t.route {
	case routeManifest:
		return h.manifest(w, r, t, repo)
	case routeBlob:
		return h.blob(w, r, t, repo)
	}
	return h.readList(w, r, t, ns, repo)
}

// readList answers with what does not belong to the storms of clients: it has a part
// of the stack to itself.
//
//go:noinline
func (h *Handler) readList(w *response, r *http.Request, t target, ns string, repo Repository) error {
	if t.route == routeReferrers {
		return h.referrers(w, r, t, ns, repo)
	}
	return h.tags(w, r, t, ns, repo)
}
