package registryd

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"hostlocal/blobcache"
)

// blob answers with a blob: from memory or from its file if it is complete here,
// else as it lands.
func (h *Handler) blob(w *response, r *http.Request, t target, repo Repository) error {
	w.digest = t.digest
	if r.Method == http.MethodHead || noneMatch(r, t.digest) {
		return h.statBlob(w, r, t, repo)
	}
	rng, kind := parseRange(rangeHeader(r, t.digest))
	b, err := h.contents.Blob(r.Context(), repo, t.digest, rng.start(), kind == rangeOne)
	if err != nil {
		return err
	}
	defer b.Close()
	small, file := b.Bytes(), b.File()
	if small == nil && file == nil {
		w.setBlob(newContentHeaders(octetStream[0], t.digest, b.Size()), b.Source())
		return h.follow(w, r, b, rng, kind)
	}
	c := h.blobs.of(octetStream[0], t.digest, b.Size())
	w.setBlob(c, b.Source())
	switch {
	case file != nil && conditional(r):
		err = serveContent(w, r, t.digest, b.Size(), file)
	case conditional(r):
		return serveContent(w, r, t.digest, b.Size(), bytes.NewReader(small))
	case file != nil:
		w.setLength(c)
		w.sendFile(file, b.Size())
	default:
		w.setLength(c)
		w.writeWhole(small)
	}
	if u, ok := b.(unreadable); ok && w.unread != nil {
		u.Unreadable(w.unread) // this client has a broken connection; the next shall not
	}
	return err
}

// An unreadable is a hold that wants to hear that its file could not be read.
type unreadable interface{ Unreadable(error) }

var _ unreadable = (*blobcache.Blob)(nil)

// statBlob answers without a body, and without fetching the blob.
func (h *Handler) statBlob(w *response, r *http.Request, t target, repo Repository) error {
	size, source, err := h.contents.StatBlob(r.Context(), repo, t.digest)
	if err != nil {
		return err
	}
	c := newContentHeaders(octetStream[0], t.digest, size)
	w.setBlob(c, source)
	if noneMatch(r, t.digest) {
		delete(w.Header(), "Content-Type")
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.setLength(c)
	w.WriteHeader(http.StatusOK)
	return nil
}

// follow answers from a fill that is under way. Status and headers say exactly
// what will come and leave with the first byte, or when there is none to send
// yet; what goes wrong until then is an error like any other, and what goes wrong
// later breaks the connection: a body must never end as if it were whole, and
// nothing may follow it.
//
// Of several ranges none is served: all of the body is a right answer to that,
// and the blob is going to be here.
func (h *Handler) follow(w *response, r *http.Request, b hold, rng byteRange, kind rangeKind) error {
	off, n, status := int64(0), b.Size(), http.StatusOK
	if kind == rangeOne && b.Size() >= 0 {
		var ok bool
		if off, n, ok = rng.within(b.Size()); ok {
			status = http.StatusPartialContent
			w.Header().Set("Content-Range", contentRange(off, n, b.Size()))
		} else if b.Size() > 0 {
			return beyond(b.Size())
		} else {
			off, n = 0, 0
		}
	}
	switch {
	case n >= 0:
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	case !r.ProtoAtLeast(1, 1):
		// Without chunks the end of the connection is the end of the body: a
		// broken one would look whole.
		return errcode.ErrorCodeUnavailable.WithMessage("the length of this blob is not known yet: ask again later, or with HTTP/1.1")
	}
	w.hold(status)
	err := b.CopyRange(r.Context(), w, off, n)
	if err == nil {
		w.commit() // of an empty body
		return nil
	}
	if !w.committed() {
		return err
	}
	w.err = err
	panic(http.ErrAbortHandler)
}

// A beyondError says that no byte of a range exists, of size bytes.
type beyondError struct{ size int64 }

func beyond(size int64) error { return beyondError{size} }

func (e beyondError) Error() string {
	return fmt.Sprintf("no byte of this range exists: there are %d", e.size)
}
