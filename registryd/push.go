package registryd

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"hostlocal/manifest"
)

// Push says whose pushes and deletes a Handler takes.
type Push uint8

const (
	// PushNobody has everything that writes refused.
	PushNobody Push = iota
	// PushLoopback takes it from this host: over loopback and unix sockets.
	PushLoopback
)

// What is refused before anybody looks at what it is.
var (
	errNoPush        error = errcode.ErrorCodeDenied.WithMessage("this registry takes no pushes and deletes: write push: loopback into its configuration if this host's programs may write to the bucket")
	errPushElsewhere error = errcode.ErrorCodeDenied.WithMessage("pushes and deletes are taken from this registry's own host only: use its loopback address or unix socket")
)

// allow returns nil if whoever sent r may write.
func (p Push) allow(r *http.Request) error {
	switch {
	case p == PushNobody:
		return errNoPush
	case !fromHere(r):
		return errPushElsewhere
	}
	return nil
}

// fromHere reports whether a request came over loopback or a unix socket: by the
// address that it was sent to, which the kernel lets nobody else reach.
func fromHere(r *http.Request) bool {
	switch a := r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	}
	return false
}

// write answers what changes something: uploads, how far one has come, pushed
// manifests, deletes. An error that it returns has not been answered.
//
//go:noinline
func (h *Handler) write(w *response, r *http.Request, t target) error {
	allowed := methods(t, r.URL.Path)
	if !allowed.has(r.Method) {
		w.Header().Set("Allow", string(allowed))
		return errMethod
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodDelete:
		refuseBody(w, r)
	}
	if err := h.push.allow(r); err != nil {
		return err
	}
	ns, err := namespace(r.URL.RawQuery)
	if err != nil {
		return err
	}
	repo, err := h.contents.ResolvePush(t.name, ns)
	if err != nil {
		return err
	}
	switch t.route {
	case routeUpload:
		return h.upload(w, r, t, repo)
	case routeManifest:
		return h.changeManifest(w, r, t, repo)
	}
	return h.deleteBlob(w, r, t, repo)
}

// methodSet are the methods that an endpoint has beside GET and HEAD, in the form of
// an Allow header.
type methodSet string

func (m methodSet) has(method string) bool {
	for name := range strings.SplitSeq(string(m), ", ") {
		if name == method {
			return true
		}
	}
	return false
}

// methods are those of t, which path means.
func methods(t target, path string) methodSet {
	switch {
	case t.route == routeUpload && uploadID(path) == "":
		return "POST"
	case t.route == routeUpload:
		return "GET, HEAD, PATCH, PUT, DELETE"
	case t.route == routeManifest:
		return "GET, HEAD, PUT, DELETE"
	case t.route == routeBlob:
		return "GET, HEAD, DELETE"
	}
	return "GET, HEAD"
}

// ResolvePush decides which repository of the bucket's own a push or a delete means.
// What is an upstream's is refused: mirrored repositories change only with their
// upstream. A bare name that could be either becomes the bucket's own by being pushed
// to. Nobody is asked.
func (g *Registry) ResolvePush(path, ns string) (Repository, error) {
	m, err := g.options.Names.Resolve(path, ns)
	switch {
	case errors.Is(err, manifest.ErrRegistry):
		return Repository{}, fmt.Errorf("%w; what is pushed needs a name of two components that begins with no registry's (team/app)", err)
	case err != nil:
		return Repository{}, err
	case !m.Undecided && !m.Name.IsOwn():
		return Repository{}, readOnly(fmt.Sprintf("%s means %s here (%s), which is only mirrored: %s", path, m.Name, m.Why, insteadOf(path, m.Name)))
	case g.bucket == nil:
		return Repository{}, errNoBucket
	case m.Undecided:
		return newRepository(m.Own, whyOwnPushed), nil
	}
	return newRepository(m.Name, m.Why), nil
}

var errNoBucket = readOnly("this registry has no store to push to: set store.url in its configuration")

// readOnly says that here nothing can be written. With the code that usually comes
// with this status podman and buildah would try thrice more, a second apart, and show
// the message each time.
func readOnly(message string) error {
	return statusError{http.StatusMethodNotAllowed, errcode.ErrorCodeDenied.WithMessage(message)}
}

// insteadOf is what to type instead of path, which means an upstream's repository. That
// is one of two things: a name like the hub's own images, which the configuration can
// claim, or a name that says where it is, which it cannot.
func insteadOf(path string, name manifest.Name) string {
	rest := strings.TrimPrefix(name.Path, "library/")
	if bare := !strings.Contains(rest, "/") && (path == rest || path == name.Path); bare {
		return fmt.Sprintf("push to a name of two components (team/%s), or list %s under own in the configuration", rest, name.Path)
	}
	if !strings.Contains(rest, "/") {
		rest = "team/" + rest
	}
	return fmt.Sprintf("push to a name without %s (%s)", name.Host, rest)
}

// whyOwnPushed is a Repository.Why.
const whyOwnPushed = "a bare name that is being pushed to: the bucket's own"
