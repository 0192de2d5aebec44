package registryd

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"hostlocal/manifest"
)

// uploadRetry is when to come again if there are too many uploads: pushes that are
// under way end within seconds, and clients try a few times.
const uploadRetry = 5 * time.Second

// upload answers what begins, continues, finishes or cancels an upload, or asks for
// it.
func (h *Handler) upload(w *response, r *http.Request, t target, repo Repository) error {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return errcode.ErrorCodeDigestInvalid.WithMessage("the query is not properly encoded")
	}
	u := uploading{h, w, r, t, repo, q, uploadID(r.URL.Path)}
	switch r.Method {
	case http.MethodPost:
		return u.begin()
	case http.MethodPatch:
		return u.add()
	case http.MethodPut:
		return u.finish()
	case http.MethodDelete:
		return u.cancel()
	}
	return u.status()
}

// An uploading is a request about an upload.
type uploading struct {
	h    *Handler
	w    *response
	r    *http.Request
	t    target
	repo Repository
	q    url.Values
	id   string
}

// begin answers a POST: with a blob that was mounted or that came with it, or with an
// upload to send one to.
func (u *uploading) begin() error {
	if err := u.announced(); err != nil {
		return err
	}
	if err := u.h.contents.takesPushes(); err != nil {
		return err
	}
	if u.q.Has("mount") {
		if d, err := parseDigest(u.q.Get("mount")); err != nil {
			return err
		} else if u.mounted(d) {
			refuseBody(u.w, u.r)
			return u.created(d)
		}
	}
	if !u.q.Has("digest") && hasBody(u.r) {
		return errcode.ErrorCodeBlobUploadInvalid.WithMessage("this POST has bytes, and no ?digest= that says what they are: send it without them, and PATCH them to its Location")
	}
	var d manifest.Digest
	if u.q.Has("digest") {
		var err error
		if d, err = parseDigest(u.q.Get("digest")); err != nil {
			return err
		}
	}
	s, err := u.h.contents.newUpload(u.r.Context(), u.repo)
	if err != nil {
		return err
	}
	defer s.close()
	if d.IsZero() {
		u.id = s.id
		return u.accepted(s.size())
	}
	if err := u.end(s, d); err != nil {
		s.cancel() // nobody was told its name
		return err
	}
	return u.created(d)
}

// announced checks the algorithm that a client announces. Which one counts is the
// digest's at the end.
func (u *uploading) announced() error {
	switch a := manifest.Algorithm(u.q.Get("digest-algorithm")); a {
	case "", manifest.SHA256, manifest.SHA512:
		return nil
	}
	return errcode.ErrorCodeDigestInvalid.WithMessage("digest-algorithm is neither sha256 nor sha512")
}

// mounted reports whether the blob could be linked from another repository.
func (u *uploading) mounted(d manifest.Digest) bool {
	name := u.q.Get("from")
	if name == "" {
		return u.h.contents.mount(u.r.Context(), u.repo, nil, d)
	}
	if checkName(name) != nil {
		return false
	}
	from, err := u.h.contents.ResolvePush(name, "") // only the bucket's own have something to mount
	return err == nil && u.h.contents.mount(u.r.Context(), u.repo, &from, d)
}

// add answers a PATCH.
func (u *uploading) add() error {
	s, err := u.open()
	if err != nil {
		return err
	}
	defer s.close()
	b, err := newReceived(u.w, u.r, s.size(), u.h.stall)
	if err == nil {
		err = s.receive(b, s.staging(b))
	}
	if err != nil {
		u.stands(s.size())
		return err
	}
	return u.accepted(s.size())
}

// finish answers a PUT.
func (u *uploading) finish() error {
	if !u.q.Has("digest") {
		return errcode.ErrorCodeDigestInvalid.WithMessage("a PUT ends an upload: say of what digest it is, as ?digest=sha256:...")
	}
	d, err := parseDigest(u.q.Get("digest"))
	if err != nil {
		return err
	}
	u.w.digest = d
	s, err := u.open()
	if err == errNoUpload && u.h.contents.finished(u.r.Context(), u.repo, d) == nil {
		refuseBody(u.w, u.r)
		return u.created(d)
	}
	if err != nil {
		return err
	}
	defer s.close()
	if err = u.end(s, d); err == nil {
		return u.created(d)
	}
	if !s.ended {
		u.stands(s.size())
	}
	return err
}

// end has the body be the last of an upload.
func (u *uploading) end(s *session, d manifest.Digest) error {
	b, err := newReceived(u.w, u.r, s.size(), u.h.stall)
	if err != nil {
		return err
	}
	return s.finish(u.r.Context(), d, b)
}

// cancel answers a DELETE.
func (u *uploading) cancel() error {
	s, err := u.h.contents.openUpload(u.r.Context(), u.repo, u.id)
	if err != nil {
		return err
	}
	s.cancel()
	s.close()
	return u.answer(http.StatusNoContent)
}

// status answers a GET or a HEAD.
func (u *uploading) status() error {
	size, err := u.h.contents.uploadSize(u.r.Context(), u.repo, u.id)
	if err != nil {
		return err
	}
	u.stands(size)
	return u.answer(http.StatusNoContent)
}

// open goes on with the upload, unless it is in vain.
func (u *uploading) open() (*session, error) {
	if err := u.h.contents.takesPushes(); err != nil {
		return nil, err
	}
	return u.h.contents.openUpload(u.r.Context(), u.repo, u.id)
}

// stands sets where the upload is and how far it has come. Of an empty one that is
// "0-0" as well as of one of one byte: so the stock registry says it, and clients read
// it.
func (u *uploading) stands(size int64) {
	h := u.w.Header()
	h.Set("Location", "/v2/"+u.t.name+"/blobs/uploads/"+u.id)
	h.Set("Range", fmt.Sprintf("0-%d", max(size-1, 0)))
	h.Set("Docker-Upload-UUID", u.id)
}

func (u *uploading) accepted(size int64) error {
	u.stands(size)
	return u.answer(http.StatusAccepted)
}

func (u *uploading) created(d manifest.Digest) error {
	u.w.digest = d
	u.w.Header().Set("Location", "/v2/"+u.t.name+"/blobs/"+d.String())
	u.w.Header().Set("Docker-Content-Digest", d.String())
	return u.answer(http.StatusCreated)
}

// answer sends what has no body. Whatever the request took, the client has its time
// to take that.
func (u *uploading) answer(status int) error {
	u.w.Header()["Docker-Distribution-Api-Version"] = apiVersion
	u.w.renew()
	u.w.WriteHeader(status)
	return nil
}
