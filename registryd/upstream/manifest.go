package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"hostlocal/manifest"
)

// accept is every type of manifest there is, in one header: an origin that finds
// one missing sends another image, or 404. The last entry is for origins that file
// manifests under types of their own.
var accept = []string{strings.Join([]string{
	manifest.OCIIndex, manifest.OCIManifest, manifest.DockerList, manifest.DockerManifest, "*/*;q=0.1",
}, ", ")}

// Head asks which manifest ref, a tag or a digest, is now, and returns what the
// upstream says of it; Size is -1 if it does not say. Where HEAD is of no use the
// manifest itself is fetched, and kept for the Manifest that follows.
func (c *Client) Head(ctx context.Context, repo, ref string) (manifest.Descriptor, error) {
	a := manifestAsk(http.MethodHead, repo, ref)
	if !repoOK(repo) || !refOK(ref) {
		return manifest.Descriptor{}, c.unknown(a)
	}
	if c.headIsUseless() {
		return c.headByGet(ctx, repo, ref)
	}
	ctx, cancel := context.WithTimeout(ctx, manifestTimeout)
	defer cancel()
	var d manifest.Descriptor
	useless := false
	err := retry(ctx, func() error {
		resp, _, err := c.do(ctx, a)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			if useless = resp.StatusCode == http.StatusMethodNotAllowed || resp.StatusCode == http.StatusNotImplemented; useless {
				drain(resp)
				return nil
			}
			return c.noted(c.refuse(a, resp))
		}
		drain(resp)
		d, err = described(resp, ref)
		useless = err == nil && (d.Digest.IsZero() || !manifest.IsManifestType(d.MediaType))
		return c.failIf(a, err)
	})
	if err != nil {
		return manifest.Descriptor{}, err
	}
	if useless {
		d, err = c.headByGet(ctx, repo, ref)
		if err == nil {
			c.getOnly.Store(time.Now().Add(getOnlyAge).UnixNano())
		}
	}
	return d, err
}

// getOnlyAge is how long an upstream whose HEAD was of no use is spared it. It may
// have been a proxy's mood, and a HEAD is a rate limit cheaper than a GET.
const getOnlyAge = 10 * time.Minute

func (c *Client) headIsUseless() bool { return time.Now().UnixNano() < c.getOnly.Load() }

func (c *Client) headByGet(ctx context.Context, repo, ref string) (manifest.Descriptor, error) {
	body, mediaType, d, err := c.manifest(ctx, repo, ref)
	if err != nil {
		return manifest.Descriptor{}, err
	}
	c.kept.add(repo, d, mediaType, body)
	return manifest.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}, nil
}

// described reads the headers of a manifest. The digest is zero if the answer to a
// tag does not say it.
func described(resp *http.Response, ref string) (manifest.Descriptor, error) {
	d := manifest.Descriptor{MediaType: mediaType(resp.Header), Size: resp.ContentLength}
	if s := resp.Header.Get("Docker-Content-Digest"); s != "" {
		var err error
		if d.Digest, err = manifest.ParseDigest(s); err != nil {
			d.Digest = manifest.Digest{} // as good as none
		}
	}
	if want, err := manifest.ParseDigest(ref); err == nil {
		if !d.Digest.IsZero() && d.Digest.Algorithm() == want.Algorithm() && d.Digest != want {
			return d, final("%w: it calls the manifest %s", manifest.ErrMismatch, d.Digest)
		}
		d.Digest = want
	}
	return d, nil
}

func mediaType(h http.Header) string {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

// Manifest returns the manifest that ref, a tag or a digest, names: at most
// manifest.MaxSize bytes, whose digest is the one in ref or, for a tag, the one in
// the answer if it has one. mediaType is one of package manifest's four. Whoever
// parses the body has the last word. A large one is read if the manifest.Need of ctx
// agrees; its error is returned as it is.
func (c *Client) Manifest(ctx context.Context, repo, ref string) (body []byte, mediaType string, err error) {
	if d, err := manifest.ParseDigest(ref); err == nil {
		if body, mediaType, ok := c.kept.get(repo, d); ok {
			return body, mediaType, nil
		}
	}
	body, mediaType, _, err = c.manifest(ctx, repo, ref)
	return body, mediaType, err
}

func (c *Client) manifest(ctx context.Context, repo, ref string) (body []byte, mediaType string, d manifest.Digest, err error) {
	a := manifestAsk(http.MethodGet, repo, ref)
	if !repoOK(repo) || !refOK(ref) {
		return nil, "", d, c.unknown(a)
	}
	ctx, cancel := context.WithTimeout(ctx, manifestTimeout)
	defer cancel()
	err = retry(ctx, func() error {
		var err error
		body, mediaType, d, err = c.getManifest(ctx, a, ref)
		return err
	})
	if err != nil {
		return nil, "", manifest.Digest{}, err
	}
	return body, mediaType, d, nil
}

func (c *Client) getManifest(ctx context.Context, a *ask, ref string) (b []byte, typ string, d manifest.Digest, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, _, err := c.do(ctx, a)
	if err != nil {
		return nil, "", d, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, "", d, c.noted(c.refuse(a, resp))
	}
	r := c.watch(ctx, cancel, a, resp.Body, func(bool) {})
	defer r.Close()
	if err := identity(resp.Header); err != nil {
		return nil, "", d, c.fail(a, err)
	}
	b, err = manifest.Read(ctx, r, resp.ContentLength)
	switch {
	case errors.Is(err, manifest.ErrTooLarge):
		return nil, "", d, c.fail(a, final("%w: at most %d bytes are read", err, manifest.MaxSize))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, "", d, c.fail(a, err)
	case err != nil:
		return nil, "", d, err // of r, or of a manifest.Need: no failure of the upstream's
	}
	said, err := described(resp, ref)
	if err != nil {
		return nil, "", d, c.fail(a, err)
	}
	if said.Digest.IsZero() {
		said.Digest = manifest.DigestOf(b)
	} else if err := said.Digest.Verify(b); err != nil {
		return nil, "", d, c.fail(a, final("%w", err))
	}
	if typ = manifestType(b, said.MediaType); typ == "" {
		return nil, "", d, c.fail(a, final("what it sent as %.80q is not a manifest", said.MediaType))
	}
	return b, typ, said.Digest, nil
}

// manifestType returns the type that the bytes themselves name, or else the one
// they were sent as, or else the one that their shape has; nothing if it is no
// manifest at all, as a page that asks for a login is not.
func manifestType(b []byte, sentAs string) string {
	var m struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     string          `json:"mediaType"`
		Manifests     json.RawMessage `json:"manifests"`
		Config        json.RawMessage `json:"config"`
	}
	if json.Unmarshal(b, &m) != nil || m.SchemaVersion != 2 {
		return ""
	}
	switch {
	case manifest.IsManifestType(m.MediaType):
		return m.MediaType
	case m.MediaType != "":
		return ""
	case manifest.IsManifestType(sentAs):
		return sentAs
	case m.Manifests != nil:
		return manifest.OCIIndex
	case m.Config != nil:
		return manifest.OCIManifest
	}
	return ""
}

func manifestAsk(method, repo, ref string) *ask {
	kind := "manifest"
	if method == http.MethodHead {
		kind = "head"
	}
	sep := ":"
	if strings.Contains(ref, ":") {
		sep = "@"
	}
	return &ask{kind: kind, what: "manifest " + repo + sep + ref, method: method, repo: repo,
		path: repo + "/manifests/" + ref, header: http.Header{"Accept": accept}}
}

// identity refuses a body that was encoded although it was not asked for: its
// bytes are not those that the digest names.
func identity(h http.Header) error {
	if e := h.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return final("the body came with Content-Encoding %.40q, which was not asked for", e)
	}
	return nil
}

// unknown is the error for a name that no registry has.
func (c *Client) unknown(a *ask) error {
	return &Error{Upstream: c.cfg.Name, What: a.what, Status: http.StatusNotFound, Code: "NAME_INVALID"}
}

func (c *Client) failIf(a *ask, err error) error {
	if err == nil {
		return nil
	}
	return c.fail(a, err)
}
