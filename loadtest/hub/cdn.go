package hub

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"hostlocal/manifest"
)

const cdnPath = "/cdn/"

// link returns the URL under which the CDN serves d: another port, signed until
// ExpireLinks.
func (h *Hub) link(d manifest.Digest) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprintf("%s%s%s?sig=%d", h.cdn.URL, cdnPath, d, h.linkSalt)
}

// ExpireLinks makes the CDN refuse all links that were handed out so far with 403.
func (h *Hub) ExpireLinks() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.linkSalt++
}

// CDNHost returns the CDN's address.
func (h *Hub) CDNHost() string { return h.cdn.Host }

func (h *Hub) serveCDN(w http.ResponseWriter, r *http.Request) {
	q := describe(r)
	q.Kind = FromCDN
	q.Digest, _ = manifest.ParseDigest(strings.TrimPrefix(r.URL.Path, cdnPath))
	h.handle(w, r, q, func(x *exchange) {
		h.mu.Lock()
		signed := r.URL.Query().Get("sig") == strconv.Itoa(h.linkSalt)
		c := h.blobs[q.Digest]
		h.mu.Unlock()
		switch {
		case !signed:
			x.fail(http.StatusForbidden, "AccessDenied")
		case c.Digest.IsZero():
			x.fail(http.StatusNotFound, "NoSuchKey")
		default:
			x.plan.noDigest = true // object stores know nothing of it
			x.send(c, "application/octet-stream", c.Digest)
		}
	})
}
