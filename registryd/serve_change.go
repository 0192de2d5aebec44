package registryd

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"hostlocal/manifest"
)

const (
	// pushStall bounds how long a client may send nothing of a manifest, and pushPace, in
	// bytes a second, how slow it may be beside that. It has memory for as long: an
	// ordinary manifest for 16 s, one of 4 MiB for 79.
	pushStall = 15 * time.Second
	pushPace  = 64 << 10

	// maxPushTags bounds the tags of one push: as many as the specification has a
	// registry take at least. Each costs two calls of the bucket.
	maxPushTags = 10
)

// changeManifest answers a PUT or DELETE of a manifest or a tag.
func (h *Handler) changeManifest(w *response, r *http.Request, t target, repo Repository) error {
	if r.Method == http.MethodPut {
		return h.putManifest(w, r, t, repo)
	}
	if t.tag != "" {
		return h.deleted(w, r, t, repo, h.contents.DeleteTag(r.Context(), repo, t.tag))
	}
	tags, err := h.contents.DeleteManifest(r.Context(), repo, t.digest)
	return h.deleted(w, r, t, repo, err, tags...)
}

// deleteBlob answers a DELETE of a blob.
func (h *Handler) deleteBlob(w *response, r *http.Request, t target, repo Repository) error {
	return h.deleted(w, r, t, repo, h.contents.DeleteBlob(r.Context(), repo, t.digest))
}

// deleted answers a delete, and tells of it and of the tags that went with it: in the
// stock registry's order, the manifest first.
func (h *Handler) deleted(w *response, r *http.Request, t target, repo Repository, err error, tags ...string) error {
	if h.events != nil {
		if err == nil {
			h.events.Deleted(r, repo.String(), t.digest, t.tag)
		}
		for _, tag := range tags {
			h.events.Deleted(r, repo.String(), manifest.Digest{}, tag)
		}
	}
	if err != nil {
		w.renew()
		return err
	}
	w.finish(http.StatusAccepted)
	return nil
}

// finish answers without a body.
func (w *response) finish(status int) {
	h := w.Header()
	h["Docker-Distribution-Api-Version"] = apiVersion
	h.Set("Content-Length", "0")
	w.renew() // a push may have taken longer than an answer may
	w.WriteHeader(status)
}

// putManifest answers a PUT of a manifest, by its digest or by a tag.
func (h *Handler) putManifest(w *response, r *http.Request, t target, repo Repository) error {
	p := Put{Ref: Ref{Tag: t.tag, Digest: t.digest}, Size: r.ContentLength}
	if err := p.parseQuery(r.URL.RawQuery); err != nil {
		return err
	}
	if said := r.Header.Get("Content-Type"); said != "" {
		var err error
		if p.MediaType, _, err = mime.ParseMediaType(said); err != nil {
			return errcode.ErrorCodeManifestInvalid.WithMessage(fmt.Sprintf("Content-Type %.100q is not a media type", said))
		}
	}
	p.Body = newPushBody(w.ResponseWriter, r.Body)
	m, err := h.contents.PutManifest(r.Context(), repo, p)
	if err != nil {
		w.renew()
		return err
	}
	h.pushed(r, repo, m, p)
	w.digest = m.Digest
	hd := w.Header()
	hd.Set("Location", "/v2/"+t.name+"/manifests/"+m.Digest.String())
	hd.Set("Docker-Content-Digest", m.Digest.String())
	if m.Subject != nil {
		hd.Set("Oci-Subject", m.Subject.Digest.String())
	}
	for _, tag := range p.Tags {
		hd.Add("Oci-Tag", tag)
	}
	w.finish(http.StatusCreated)
	return nil
}

// pushed tells of a push, for each tag.
func (h *Handler) pushed(r *http.Request, repo Repository, m *manifest.Manifest, p Put) {
	if h.events == nil {
		return
	}
	for _, tag := range p.Tags {
		h.events.Pushed(r, repo.String(), m, tag)
	}
	if len(p.Tags) == 0 {
		h.events.Pushed(r, repo.String(), m, p.Ref.Tag)
	}
}

// parseQuery reads what a push says behind its path: "tag", any number of times, are
// more tags for a manifest that is pushed by digest, and "digest" is that of one that
// is pushed by tag (regctl says it so, where it is not a sha256).
func (p *Put) parseQuery(query string) error {
	if query == "" {
		return nil
	}
	q, err := url.ParseQuery(query)
	if err != nil {
		return errcode.ErrorCodeManifestInvalid.WithMessage("the query is not properly encoded")
	}
	tags := q["tag"]
	switch {
	case len(tags) > 0 && p.Ref.Tag != "":
		return errcode.ErrorCodeManifestInvalid.WithMessage("tags in the query go with a manifest that is pushed by its digest")
	case len(tags) > maxPushTags:
		return statusError{http.StatusRequestURITooLong, errcode.ErrorCodeManifestInvalid.WithMessage(fmt.Sprintf("at most %d tags can be pushed at once: push the others with the next request", maxPushTags))}
	}
	for _, tag := range tags {
		if !manifest.ValidTag(tag) {
			return errcode.ErrorCodeTagInvalid.WithMessage(fmt.Sprintf("%.130q is not a tag: at most 128 letters, digits, '_', '.' and '-'", tag))
		}
		if !slices.Contains(p.Tags, tag) {
			p.Tags = append(p.Tags, tag)
		}
	}
	if d := q.Get("digest"); d != "" && p.Ref.Tag != "" {
		p.Digest, err = parseDigest(d)
	}
	return err
}

// A pushBody is the body of a manifest, of a client that may be slow or stall.
type pushBody struct {
	io.Reader
	deadline interface{ SetReadDeadline(time.Time) error } // nil: it has none
	begun    time.Time
	came     int64 // bytes
}

func newPushBody(w http.ResponseWriter, body io.Reader) *pushBody {
	b := &pushBody{Reader: body, begun: time.Now()}
	b.deadline, _ = w.(interface{ SetReadDeadline(time.Time) error })
	return b
}

// Read leaves no deadline behind: when there is nothing more to read, net/http would
// take it for a client that has left.
func (b *pushBody) Read(p []byte) (int, error) {
	if b.deadline != nil {
		pace := b.begun.Add(pushStall + time.Duration(b.came)*time.Second/pushPace)
		b.deadline.SetReadDeadline(minTime(time.Now().Add(pushStall), pace)) // fails on a dead connection; the read will say so
		defer b.deadline.SetReadDeadline(time.Time{})
	}
	n, err := b.Reader.Read(p)
	b.came += int64(n)
	return n, err
}
