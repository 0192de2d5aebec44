package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// userAgent names us to origins, who write to the operators of clients that
// misbehave.
const userAgent = "registryd"

// An ask is one thing wanted of the upstream.
type ask struct {
	kind   string // for Observe
	what   string // for errors
	method string
	repo   string
	path   string // behind /v2/
	query  string
	header http.Header
}

// do sends a to the upstream, with what authorization it takes, and follows
// redirects. Any status is a success; final is where the answer came from.
func (c *Client) do(ctx context.Context, a *ask) (resp *http.Response, final *url.URL, err error) {
	u := *c.base
	u.Path += "/v2/" + a.path
	u.RawQuery = a.query
	for second := false; ; second = true {
		used, err := c.auth.header(ctx, a.repo)
		if err != nil {
			return nil, nil, c.failed(a, err)
		}
		resp, final, err := c.hops(ctx, a, &u, used.value)
		if err != nil {
			return nil, nil, c.failed(a, err)
		}
		if resp.StatusCode != http.StatusUnauthorized || !c.sameOrigin(final) {
			return resp, final, nil
		}
		again, err := c.auth.challenged(a.repo, resp.Header.Values("Www-Authenticate"), used)
		if err != nil {
			drain(resp)
			return nil, nil, c.failed(a, err)
		}
		if second || !again {
			return resp, final, nil
		}
		drain(resp)
	}
}

// failed makes the error of a that got no answer, and notes the outage.
func (c *Client) failed(a *ask, err error) error {
	err = c.fail(a, err)
	c.status.failed(err)
	return err
}

// maxHops bounds redirects: registries need one, two with a load balancer in front.
const maxHops = 4

// hops sends a to u and follows redirects. The authorization is sent to the
// upstream's own origin only.
func (c *Client) hops(ctx context.Context, a *ask, u *url.URL, authorization string) (*http.Response, *url.URL, error) {
	for range maxHops + 1 {
		auth := ""
		if c.sameOrigin(u) {
			auth = authorization
		}
		resp, err := c.exchange(ctx, a, u, auth)
		if err != nil {
			return nil, nil, err
		}
		switch resp.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
			http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		default:
			return resp, u, nil
		}
		drain(resp)
		if u, err = c.redirect(u, resp.Header.Get("Location")); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, final("more than %d redirects", maxHops)
}

// exchange is one HTTP exchange.
func (c *Client) exchange(ctx context.Context, a *ask, u *url.URL, authorization string) (*http.Response, error) {
	req := (&http.Request{
		Method: a.method, URL: u, Host: u.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"User-Agent": {userAgent}, "Accept-Encoding": {"identity"}},
	}).WithContext(ctx)
	for k, v := range a.header {
		req.Header[k] = v
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		c.observe(a.kind, 0)
		if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
			err = cause
		}
		return nil, fmt.Errorf("asking %s: %w", u.Host, err)
	}
	c.observe(a.kind, resp.StatusCode)
	c.status.answered(resp)
	return resp, nil
}

func (c *Client) observe(kind string, code int) {
	if c.cfg.Observe != nil {
		c.cfg.Observe(kind, code)
	}
}

// sameOrigin reports whether u is the upstream itself: where its credentials go.
func (c *Client) sameOrigin(u *url.URL) bool {
	return u.Scheme == c.base.Scheme && hostPort(u) == c.guard.own
}

// redirect checks where an answer points. The address behind the name is checked
// when it is dialled.
func (c *Client) redirect(from *url.URL, location string) (*url.URL, error) {
	to, err := from.Parse(location)
	switch {
	case err != nil || location == "":
		return nil, final("%s redirects to nowhere", from.Host)
	case to.Scheme != "https" && (to.Scheme != "http" || c.base.Scheme != "http"):
		return nil, final("%s redirects to %s://%s: https only, unless the upstream's url is http", from.Host, to.Scheme, to.Host)
	case to.Host == "" || to.User != nil:
		return nil, final("%s redirects to a URL without a host or with credentials", from.Host)
	}
	to.Fragment = ""
	return to, nil
}

// drain closes an answer, reading what little is left so that its connection can
// be used again.
func drain(resp *http.Response) {
	io.CopyN(io.Discard, resp.Body, maxError)
	resp.Body.Close()
}

// repoOK and refOK say whether a name can stand in a path as it is. References are
// valid when they come here; this keeps a mistake elsewhere from becoming a
// request to another path.
func repoOK(repo string) bool {
	for part := range strings.SplitSeq(repo, "/") {
		if part == "" || part == "." || part == ".." || !plain(part) {
			return false
		}
	}
	return len(repo) <= 255
}

func refOK(ref string) bool {
	return ref != "" && ref != "." && ref != ".." && len(ref) <= 255 && plain(ref)
}

func plain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-', c == ':':
		default:
			return false
		}
	}
	return true
}
