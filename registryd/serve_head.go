package registryd

import (
	"net/http"
	"strings"
)

// All clients look for the blobs and the manifest of what they are going to push. If
// there is no answer they end the push, some after they tried again for a while: where
// the upstream cannot be asked, in a network without one, that would be always, and
// nobody would see what the push itself is answered with. So to whoever is about to
// push an outage of the upstream is a no:
//
//	HEAD of                          by whom
//	a bare name that could be own    everybody who may push, and soon
//	any other that is an upstream's  those of them who show that they are about to push
//	                                 (seesPush): it is refused next, and says why
//
// Who only wants to pull by a HEAD of the first row takes it for a no too, and turns to
// his hub. A GET keeps its 503: docker turns to its hub only then. So does a HEAD by those
// who may not push, as caches in front of this host are: they remember a no.

// head answers a HEAD of a manifest or a blob.
//
//go:noinline
func (h *Handler) head(w *response, r *http.Request, t target) error {
	ns, err := namespace(r.URL.RawQuery)
	if err != nil {
		return err
	}
	repo, err := h.contents.Resolve(r.Context(), t.name, ns)
	if err != nil {
		return err
	}
	may := h.push.allow(r) == nil
	hurries := may && repo.hasten()
	if t.route == routeManifest {
		err = h.manifest(w, r, t, repo)
	} else {
		err = h.blob(w, r, t, repo)
	}
	if err != nil && (hurries || may && ns == "" && !repo.Name.IsOwn() && seesPush(r, t)) {
		return beforePush(t.route, err)
	}
	return err
}

// seesPush reports whether a HEAD, of one who does not say that he means a mirror, looks
// like those before a push. Pulls get blobs without asking for them first, and containerd,
// which alone begins a pull with a HEAD of the manifest, takes one of any type: */*. Who
// has it asks for its one type. crane and oras list the types that they know before a
// push; so do tools that only look for a new image, and they are taken for pushers too.
func seesPush(r *http.Request, t target) bool {
	if t.route == routeBlob {
		return true
	}
	types, any := 0, false
	for _, line := range r.Header["Accept"] {
		for one := range strings.SplitSeq(line, ",") {
			one, _, _ = strings.Cut(one, ";")
			switch strings.TrimSpace(one) {
			case "":
			case "*/*":
				any = true
			default:
				types++
			}
		}
	}
	return types == 1 || types > 1 && !any
}

// beforePush is the answer, instead of err, to a HEAD by which somebody who is about to
// push looks at what an upstream has.
func beforePush(rt route, err error) error {
	if status, _ := answerTo(err, rt); status < http.StatusInternalServerError {
		return err
	}
	return unknown(rt).WithMessage("nothing is known of it here, and its upstream cannot be asked: a push need not wait for that; " + plain(err))
}
