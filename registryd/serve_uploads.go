package registryd

import (
	"net/http"

	"github.com/distribution/distribution/v3/registry/api/errcode"
)

// upload answers what begins, continues, finishes or cancels an upload.
func (h *Handler) upload(w *response, r *http.Request, t target, repo Repository) error {
	return errMethod
}

// uploadStatus answers how far an upload has got.
func (h *Handler) uploadStatus(w *response, r *http.Request, t target, repo Repository) error {
	return errNoUpload
}

var errNoUpload error = errcode.ErrorCodeBlobUploadUnknown.WithMessage("there is no such upload here")
