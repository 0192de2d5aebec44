package registryd

import "net/http"

// changeManifest answers a PUT or DELETE of a manifest or a tag.
func (h *Handler) changeManifest(w *response, r *http.Request, t target, repo Repository) error {
	return errMethod
}

// deleteBlob answers a DELETE of a blob.
func (h *Handler) deleteBlob(w *response, r *http.Request, t target, repo Repository) error {
	return errMethod
}
