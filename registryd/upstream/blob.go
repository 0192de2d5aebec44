package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"hostlocal/manifest"
)

// errSlow is why an origin that did not get to a blob's headers is given up.
var errSlow = errors.New("no answer in time")

// OpenBlob asks for n bytes of a blob from byte off on; n < 0 asks for all that
// follow. The body begins at byte from of the blob: at off, or at 0 if the upstream
// does not serve ranges. size is the length of the whole blob in bytes as the
// answer said it, or -1. The caller closes body, which ends the exchange at once.
// The body is not verified; a read that brings nothing for StallTimeout fails, and
// so does the whole if ctx ends. With Config.Parallel bodies open it waits for one
// to be closed, within ctx; what follows is bounded, in time and, while the upstream
// is silent, in number.
func (c *Client) OpenBlob(ctx context.Context, repo string, d manifest.Digest, off, n int64) (r io.ReadCloser, from, size int64, err error) {
	a := &ask{kind: "blob", what: fmt.Sprintf("blob %s of %s", d, repo), method: http.MethodGet, repo: repo,
		path: repo + "/blobs/" + d.String(), header: http.Header{}}
	switch {
	case d.IsZero() || !repoOK(repo):
		return nil, 0, -1, c.unknown(a)
	case off < 0:
		return nil, 0, -1, c.fail(a, final("a range from %d on", off))
	case n == 0:
		return http.NoBody, off, -1, nil
	case n > 0:
		a.header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	case off > 0:
		a.header.Set("Range", fmt.Sprintf("bytes=%d-", off))
	}
	key := linkKey{repo, d}
	release, err := c.slot(ctx)
	if err != nil {
		return nil, 0, -1, c.fail(a, err)
	}
	// The exchange lives on as the body; until then the time is bounded.
	exchange, cancel := context.WithCancelCause(ctx)
	opening, ok := c.silent.begin(cancel)
	if !ok {
		cancel(nil)
		release()
		return nil, 0, -1, &Error{Upstream: c.cfg.Name, What: a.what, RetryAfter: busyRetry, Err: errBusy}
	}
	late := time.AfterFunc(openTimeout, func() { cancel(fmt.Errorf("%w (%v)", errSlow, openTimeout)) })
	var resp *http.Response
	err = retry(exchange, func() error {
		resp, err = c.getBlob(exchange, a, key)
		if err == nil {
			from, size, err = c.span(a, resp, off)
			if err != nil {
				c.links.forget(key)
				resp.Body.Close()
			}
		}
		return err
	})
	opening.end()
	if err == nil && !late.Stop() {
		resp.Body.Close()
		err = c.fail(a, errSlow)
	}
	if errors.Is(err, errBusy) {
		err = &Error{Upstream: c.cfg.Name, What: a.what, RetryAfter: busyRetry, Err: errBusy}
	}
	if err != nil {
		late.Stop()
		cancel(nil)
		release()
		return nil, 0, -1, err
	}
	done := func(broken bool) {
		if broken {
			c.links.forget(key) // the upstream may know a better place
		}
		release()
	}
	return c.watch(exchange, cancel, a, resp.Body, done), from, size, nil
}

// slot waits until another body may be open.
func (c *Client) slot(ctx context.Context) (release func(), err error) {
	if c.slots == nil {
		return func() {}, nil
	}
	select {
	case c.slots <- struct{}{}:
		return func() { <-c.slots }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for one of %d bodies to end: %w", cap(c.slots), context.Cause(ctx))
	}
}

// getBlob asks where the blob was last, or else the upstream, and returns an
// answer with a body.
func (c *Client) getBlob(ctx context.Context, a *ask, key linkKey) (*http.Response, error) {
	if link := c.links.get(key); link != nil {
		resp, _, err := c.hops(ctx, a, link, "")
		if err == nil && hasBody(resp) {
			return resp, nil
		}
		// The link may have run out, or its server be down: the upstream knows better.
		c.links.forget(key)
		if err == nil {
			drain(resp)
		} else if ctx.Err() != nil {
			return nil, c.failed(a, err)
		}
	}
	resp, final, err := c.do(ctx, a)
	if err != nil {
		return nil, err
	}
	if !hasBody(resp) {
		return nil, c.noted(c.refuse(a, resp))
	}
	if !c.sameOrigin(final) {
		c.links.add(key, final)
	}
	return resp, nil
}

func hasBody(resp *http.Response) bool {
	return resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent
}

// span says which bytes an answer holds.
func (c *Client) span(a *ask, resp *http.Response, off int64) (from, size int64, err error) {
	if err := identity(resp.Header); err != nil {
		return 0, -1, c.fail(a, err)
	}
	if t := mediaType(resp.Header); t == "text/html" {
		return 0, -1, c.fail(a, final("it sent a page of HTML"))
	}
	if resp.StatusCode == http.StatusOK {
		return 0, resp.ContentLength, nil
	}
	first, last, size, ok := contentRange(resp.Header.Get("Content-Range"))
	switch {
	case !ok:
		return 0, -1, c.fail(a, final("206 with Content-Range %.80q", resp.Header.Get("Content-Range")))
	case first != off:
		return 0, -1, c.fail(a, final("asked for bytes from %d on it sent them from %d on", off, first))
	case resp.ContentLength >= 0 && resp.ContentLength != last-first+1:
		return 0, -1, c.fail(a, final("206 with Content-Range %.80q and Content-Length %d", resp.Header.Get("Content-Range"), resp.ContentLength))
	}
	return first, size, nil
}

// contentRange reads "bytes 0-9/100"; size is -1 for "bytes 0-9/*".
func contentRange(v string) (first, last, size int64, ok bool) {
	v, isBytes := strings.CutPrefix(v, "bytes ")
	span, whole, slash := strings.Cut(v, "/")
	a, b, dash := strings.Cut(span, "-")
	if !isBytes || !slash || !dash {
		return 0, 0, -1, false
	}
	first, ok1 := number(a)
	last, ok2 := number(b)
	size = -1
	ok3 := true
	if whole != "*" {
		if size, ok3 = number(whole); ok3 && last >= size {
			return 0, 0, -1, false
		}
	}
	return first, last, size, ok1 && ok2 && ok3 && first <= last
}

// number reads decimal digits and nothing else.
func number(s string) (int64, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
