package registryd

import (
	"net/http"

	"hostlocal/manifest"
)

// Events hears what clients did to the images of this registry, for those who
// listen elsewhere. Repositories are named as they lie in the bucket. None of it may
// hold up the request, nor keep r, and there is no error: an event is a hint, and a
// push or a pull is well without anybody having heard of it.
type Events interface {
	// Pushed is called when the bucket has a manifest and what it refers to and, if
	// it was pushed under one, the tag; before that is acknowledged, so that what is
	// acknowledged has been told. Of several tags it is called for each. m has its
	// Body.
	Pushed(r *http.Request, repo string, m *manifest.Manifest, tag string)
	// Deleted is called when the bucket has done it: for a tag, with no digest; for a
	// manifest or a blob, with no tag. Of the tags that a manifest took with it, it is
	// called for each.
	Deleted(r *http.Request, repo string, d manifest.Digest, tag string)
	// Pulled is called when a client was sent all of a manifest of size bytes; tag is
	// empty where it asked by digest. m may be without its Body. Its cost is on every
	// pull's way.
	Pulled(r *http.Request, repo string, m *manifest.Manifest, size int64, tag string)
}

// pulled tells of a manifest if all of it was sent: not of a HEAD, an answer that
// what the client has is right, a part, or a connection that broke.
//
//go:noinline
func (h *Handler) pulled(w *response, r *http.Request, t *target, repo *Repository, a *Answer) {
	if r.Method == http.MethodGet && w.status == http.StatusOK && w.sent == a.Size {
		h.events.Pulled(r, repo.String(), a.Manifest, a.Size, t.tag)
	}
}
