package upstream

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// maxTagList bounds one page of tags: 64 Ki tags of the greatest length.
const maxTagList = 8 << 20

// Tags returns a page of the tags of repo: at most n of them (0: as many as the
// upstream likes) behind last (empty: from the first on). next is what to give as
// last for the following page, empty if there is none.
func (c *Client) Tags(ctx context.Context, repo string, n int, last string) (tags []string, next string, err error) {
	q := url.Values{}
	if n > 0 {
		q.Set("n", strconv.Itoa(n))
	}
	if last != "" {
		q.Set("last", last)
	}
	a := &ask{kind: "tags", what: "tags of " + repo, method: http.MethodGet, repo: repo,
		path: repo + "/tags/list", query: q.Encode(), header: http.Header{"Accept": {"application/json"}}}
	if !repoOK(repo) {
		return nil, "", c.unknown(a)
	}
	ctx, cancel := context.WithTimeout(ctx, manifestTimeout)
	defer cancel()
	err = retry(ctx, func() error {
		var err error
		tags, next, err = c.getTags(ctx, a)
		return err
	})
	return tags, next, err
}

func (c *Client) getTags(ctx context.Context, a *ask) (tags []string, next string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, _, err := c.do(ctx, a)
	if err != nil {
		return nil, "", err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, "", c.noted(c.refuse(a, resp))
	}
	r := c.watch(ctx, cancel, a, resp.Body, func(bool) {})
	defer r.Close()
	if err := identity(resp.Header); err != nil {
		return nil, "", c.fail(a, err)
	}
	b, err := io.ReadAll(io.LimitReader(r, maxTagList+1))
	if err != nil {
		return nil, "", err
	}
	var list struct {
		Tags []string `json:"tags"`
	}
	if len(b) > maxTagList {
		return nil, "", c.fail(a, final("more than %d bytes of tags on one page", maxTagList))
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, "", c.fail(a, final("what it sent is not a list of tags: %v", err))
	}
	if list.Tags == nil {
		list.Tags = []string{}
	}
	return list.Tags, nextPage(resp.Header.Values("Link"), list.Tags), nil
}

// nextPage reads Link: </v2/app/tags/list?n=2&last=b>; rel="next". A link that
// counts pages in another way means: behind the last tag of this one.
func nextPage(links, tags []string) string {
	for _, l := range links {
		target, params, ok := strings.Cut(l, ">")
		target, open := strings.CutPrefix(strings.TrimSpace(target), "<")
		if !ok || !open || !isNext(params) || len(tags) == 0 {
			continue
		}
		if u, err := url.Parse(target); err == nil && u.Query().Get("last") != "" {
			return u.Query().Get("last")
		}
		return tags[len(tags)-1]
	}
	return ""
}

func isNext(params string) bool {
	for p := range strings.SplitSeq(params, ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(strings.TrimSpace(k), "rel") && strings.EqualFold(strings.Trim(strings.TrimSpace(v), `"`), "next") {
			return true
		}
	}
	return false
}
