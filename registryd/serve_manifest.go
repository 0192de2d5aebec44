package registryd

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"hostlocal/manifest"
)

// manifest answers with a manifest or an index: whole, in the one media type that
// its bytes have, whatever Accept says. There is nothing to negotiate: what a
// digest names has one form, and a client that does not take it says so better
// than we could.
func (h *Handler) manifest(w *response, r *http.Request, t target, repo Repository) error {
	head := r.Method == http.MethodHead
	a, err := h.contents.Manifest(r.Context(), repo, Ref{Tag: t.tag, Digest: t.digest}, head)
	if err != nil {
		return err
	}
	defer a.Close()
	m := a.Manifest
	var c *contentHeaders
	if m.Body == nil {
		c = newContentHeaders(m.MediaType, m.Digest, a.Size)
	} else {
		c = h.manifests.of(m.MediaType, m.Digest, int64(len(m.Body)))
	}
	cache := cacheControl
	if t.tag != "" {
		cache = nil
	}
	w.digest = m.Digest
	w.setContent(c, a.Source, cache)
	if a.Warning != "" {
		w.Header().Set("Warning", a.Warning)
	}
	switch {
	case head && noneMatch(r, m.Digest):
		w.WriteHeader(http.StatusNotModified)
	case head:
		w.setLength(c)
		w.WriteHeader(http.StatusOK)
	case a.Large != nil && a.Large.File() != nil:
		err = serveContent(w, r, m.Digest, a.Size, a.Large.File())
	case a.Large != nil:
		err = serveContent(w, r, m.Digest, a.Size, bytes.NewReader(a.Large.Bytes()))
	case conditional(r):
		err = serveContent(w, r, m.Digest, int64(len(m.Body)), bytes.NewReader(m.Body))
	default:
		w.setLength(c)
		w.writeWhole(m.Body)
	}
	if err == nil && h.events != nil {
		h.pulled(w, r, &t, &repo, &a)
	}
	return err
}

// setLength sets the Content-Length of all of the content.
func (w *response) setLength(c *contentHeaders) {
	if c.length != nil {
		w.Header()["Content-Length"] = c.length
	}
}

// maxRanges bounds the ranges of one request: each costs a header in the answer,
// and no client of registries asks for more than one.
const maxRanges = 8

// serveContent answers with content that is complete, by http.ServeContent:
// ranges, conditions and, for a file, sendfile. What that would answer without
// the form of the API is answered here first.
func serveContent(w *response, r *http.Request, d manifest.Digest, size int64, content io.ReadSeeker) error {
	if header := rangeHeader(r, d); header != "" {
		rng, kind := parseRange(header)
		switch {
		case kind == rangeNone, kind == rangeMany && strings.Count(header, ",") >= maxRanges:
			r.Header.Del("Range")
		case kind == rangeOne:
			off, n, ok := rng.within(size)
			switch {
			case ok:
				// In the one form that net/http reads as we do.
				r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
			case size > 0 && !noneMatch(r, d):
				return beyond(size)
			}
		}
	}
	http.ServeContent(w, r, "", time.Time{}, content)
	return nil
}
