package registryd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"hostlocal/blobcache"
	"hostlocal/manifest"
)

// statusClientGone is what is counted and logged for a client that left before
// there was an answer; it never reaches the wire.
const statusClientGone = 499

// answerTo is the one place where an error becomes a status and a code. rt says
// what was asked for.
//
// What is not there is 404, what one may not have is 403 without a challenge (a
// client would answer one with the credentials of its hub), what was asked
// wrongly is 400. All the rest is an outage, and never 500: podman tries again
// after 502, 503 and 504, and the others turn to their hub after any of them.
func answerTo(err error, rt route) (status int, e errcode.Error) {
	var coded errcode.Error
	var special statusError
	var outside beyondError
	var broken brokenBody
	var bucket notTaken
	var timeout net.Error
	var network *net.OpError
	switch {
	case errors.As(err, &special):
		return special.status, special.e
	case errors.As(err, &coded):
		return coded.Code.Descriptor().HTTPStatusCode, coded
	case errors.As(err, &outside):
		return http.StatusRequestedRangeNotSatisfiable, errcode.ErrorCodeRangeInvalid.WithMessage(err.Error())
	case errors.As(err, &broken):
		return pick(broken.stalled(), http.StatusRequestTimeout, http.StatusBadRequest), errcode.ErrorCodeBlobUploadInvalid.WithMessage(plain(err))
	case errors.Is(err, errUploadInUse):
		return http.StatusConflict, errcode.ErrorCodeBlobUploadInvalid.WithMessage(err.Error())
	case errors.Is(err, blobcache.ErrTooManyUploads):
		return http.StatusTooManyRequests, errcode.ErrorCodeTooManyRequests.WithMessage("too many uploads are under way here, or were left unfinished: finish or cancel some; those that nobody goes on with are removed after a while")
	case errors.Is(err, blobcache.ErrNoRoom):
		return http.StatusServiceUnavailable, errcode.ErrorCodeUnavailable.WithMessage("this host's disk has no room for it, or it is larger than three quarters of cache.size: let pushes that are under way end, raise cache.size, or push through another host. " + plain(err))
	case errors.As(err, &bucket) && !bucket.refused():
		return http.StatusServiceUnavailable, errcode.ErrorCodeUnavailable.WithMessage(plain(err))
	case errors.Is(err, manifest.ErrDigest), rt == routeUpload && errors.Is(err, manifest.ErrMismatch):
		return http.StatusBadRequest, errcode.ErrorCodeDigestInvalid.WithMessage(plain(err))
	case errors.Is(err, manifest.ErrName), errors.Is(err, manifest.ErrTag), errors.Is(err, manifest.ErrReference):
		return http.StatusBadRequest, errcode.ErrorCodeNameInvalid.WithMessage(plain(err))
	case errors.Is(err, manifest.ErrRegistry):
		return http.StatusNotFound, errcode.ErrorCodeNameUnknown.WithMessage(plain(err))
	case errors.Is(err, fs.ErrNotExist):
		return http.StatusNotFound, unknown(rt).WithMessage(plain(err))
	case errors.Is(err, fs.ErrPermission):
		return http.StatusForbidden, errcode.ErrorCodeDenied.WithMessage(plain(err))
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		status = http.StatusGatewayTimeout
	case errors.Is(err, blobcache.ErrSuspect):
		status = http.StatusServiceUnavailable
	case errors.Is(err, manifest.ErrMismatch), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network):
		status = http.StatusBadGateway
	default:
		status = http.StatusServiceUnavailable
	}
	return status, errcode.ErrorCodeUnavailable.WithMessage(plain(err))
}

// A statusError has another status than its code has.
type statusError struct {
	status int
	e      errcode.Error
}

func (s statusError) Error() string { return s.e.Error() }

// unknown is the code for what was asked for and is not there.
func unknown(rt route) errcode.ErrorCode {
	switch rt {
	case routeManifest:
		return errcode.ErrorCodeManifestUnknown
	case routeBlob:
		return errcode.ErrorCodeBlobUnknown
	}
	return errcode.ErrorCodeNameUnknown
}

// contentFields are the headers that speak of a body that will not come.
var contentFields = []string{"Content-Type", "Content-Length", "Content-Range", "Accept-Ranges",
	"Etag", "Cache-Control", "Docker-Content-Digest", "Warning", "X-Registryd-Source"}

// fail answers with err in the API's form. Headers that were set for a body that
// will not come are taken back.
func (h *Handler) fail(w *response, r *http.Request, rt route, err error) {
	w.err = err
	// Of one that stalled net/http says so, too, but it is there.
	if b := (brokenBody{}); r.Context().Err() != nil && !(errors.As(err, &b) && b.stalled()) {
		w.status = statusClientGone // whatever went wrong then went wrong for nobody
		// One that closed only its own end would be told 200 by net/http.
		panic(http.ErrAbortHandler)
	}
	status, e := answerTo(err, rt)
	hd := w.Header()
	for _, k := range contentFields {
		delete(hd, k)
	}
	w.held, w.source = 0, ""
	hd["Docker-Distribution-Api-Version"] = apiVersion
	if outside := (beyondError{}); errors.As(err, &outside) {
		hd.Set("Content-Range", fmt.Sprintf("bytes */%d", outside.size))
	}
	after := restFor(err)
	if status == http.StatusTooManyRequests {
		after = uploadRetry
	}
	if after > 0 && (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests) {
		hd.Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
	}
	writeError(w, status, e)
}

// writeError sends one error as the specification's JSON.
func writeError(w http.ResponseWriter, status int, e errcode.Error) {
	body, err := json.Marshal(errcode.Errors{e})
	if err != nil { // a message is a string: this cannot be, and must not be silence
		body = []byte(`{"errors":[{"code":"UNKNOWN","message":"unknown error"}]}`)
	}
	hd := w.Header()
	hd.Set("Content-Type", "application/json; charset=utf-8")
	hd.Set("Content-Length", strconv.Itoa(len(body)))
	hd.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(body) // a client that does not take it has left
}

// maxMessage bounds an error's message to a client, in bytes: it may quote what
// an upstream or the client itself sent.
const maxMessage = 400

// plain is an error's text without what is nobody's business: the query of a URL
// may be a signature (a redirect to a bucket), and control characters belong in
// nobody's terminal.
func plain(err error) string {
	s := err.Error()
	var b strings.Builder
	inQuery := false
	for _, c := range s[:min(len(s), maxMessage)] {
		switch {
		case c == ' ' || c == '"' || c == '\n':
			inQuery = false
		case c == '?' && !inQuery:
			inQuery = true
			b.WriteString("?...")
		}
		switch {
		case inQuery:
		case c < ' ' || c == 0x7f || c == '\uFFFD':
			b.WriteByte(' ')
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}
