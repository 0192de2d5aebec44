package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"hostlocal/manifest"
)

const (
	// maxReferrerPages bounds the pages of one list, each of which has as many as fit
	// into a manifest. One that goes on is no list that anybody could use.
	maxReferrerPages = 16

	// maxReferrers bounds one list in descriptors, at about 500 bytes each: thousands
	// of signatures of one image.
	maxReferrers = 1 << 14

	// maxReferrerBytes bounds the pages of one list together, in bytes: the room that
	// was had for the largest of them is all that they have. In memory annotations of
	// a stranger's make several times as much of it.
	maxReferrerBytes = 2 * manifest.MaxSize
)

// Referrers returns the descriptors of all manifests of repo that refer to subject,
// or an error that wraps fs.ErrNotExist if the upstream answers that it has no such
// list: it does not know this part of the API.
func (c *Client) Referrers(ctx context.Context, repo string, subject manifest.Digest) ([]manifest.Descriptor, error) {
	a := &ask{kind: "referrers", what: "referrers of " + repo + "@" + subject.String(), method: http.MethodGet, repo: repo,
		path: repo + "/referrers/" + subject.String(), header: http.Header{"Accept": {manifest.OCIIndex}}}
	if !repoOK(repo) {
		return nil, c.unknown(a)
	}
	ctx, cancel := context.WithTimeout(ctx, manifestTimeout)
	defer cancel()
	var all []manifest.Descriptor
	var bytes int64
	for range maxReferrerPages {
		var page []manifest.Descriptor
		var size int
		var next string
		err := retry(ctx, func() (err error) {
			page, size, next, err = c.getReferrers(ctx, a)
			return err
		})
		if err != nil {
			return nil, err
		}
		if bytes += int64(size); bytes > maxReferrerBytes {
			return nil, c.fail(a, final("more than %d bytes of referrers", maxReferrerBytes))
		}
		if all = append(all, page...); len(all) > maxReferrers {
			return nil, c.fail(a, final("more than %d referrers", maxReferrers))
		}
		if next == "" {
			return all, nil
		}
		a.query = next
	}
	return nil, c.fail(a, final("more than %d pages of referrers", maxReferrerPages))
}

// getReferrers gets one page, of size bytes, and the query of the next one if there is
// any.
func (c *Client) getReferrers(ctx context.Context, a *ask) (list []manifest.Descriptor, size int, next string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, _, err := c.do(ctx, a)
	if err != nil {
		return nil, 0, "", err
	}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return nil, 0, "", fmt.Errorf("%w: %w", fs.ErrNotExist, c.refuse(a, resp))
	default:
		return nil, 0, "", c.noted(c.refuse(a, resp))
	}
	r := c.watch(ctx, cancel, a, resp.Body, func(bool) {})
	defer r.Close()
	if err := identity(resp.Header); err != nil {
		return nil, 0, "", c.fail(a, err)
	}
	b, err := manifest.Read(ctx, r, resp.ContentLength)
	switch {
	case errors.Is(err, manifest.ErrTooLarge):
		return nil, 0, "", c.fail(a, final("%w: at most %d bytes are read", err, manifest.MaxSize))
	case err != nil:
		return nil, 0, "", err // of r, or of a manifest.Need
	}
	var index struct {
		Manifests []manifest.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(b, &index); err != nil || !strings.HasPrefix(strings.TrimSpace(string(b[:min(len(b), 64)])), "{") {
		return nil, 0, "", c.fail(a, final("what it sent is not a list of referrers: %v", err))
	}
	for _, d := range index.Manifests {
		if d.Digest.IsZero() || d.Size < 0 {
			return nil, 0, "", c.fail(a, final("a referrer without a digest, or of %d bytes", d.Size))
		}
	}
	next, err = nextReferrers(a, resp.Header.Values("Link"))
	return index.Manifests, len(b), next, c.failIf(a, err)
}

// nextReferrers reads Link: </v2/app/referrers/sha256:...?page=2>; rel="next". Only
// its query is taken: the next page of a list lies where the list does, and an
// upstream does not tell us whom to ask. One page of a list that lies elsewhere is
// not taken for all of it.
func nextReferrers(a *ask, links []string) (query string, err error) {
	for _, l := range links {
		target, params, ok := strings.Cut(l, ">")
		target, open := strings.CutPrefix(strings.TrimSpace(target), "<")
		if !ok || !open || !isNext(params) {
			continue
		}
		u, err := url.Parse(target)
		switch {
		case err != nil, !strings.HasSuffix(u.Path, "/"+a.path) && u.Path != "":
			return "", final("its next page of referrers is at %.100q", target)
		case u.RawQuery == "" || u.RawQuery == a.query:
			return "", final("its next page of referrers is the same one")
		}
		return u.RawQuery, nil
	}
	return "", nil
}
