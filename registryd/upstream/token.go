package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// tokenTimeout bounds one token request. Callers wait for it within their own
	// deadline; it ends here so that a stalled server is found out.
	tokenTimeout = 5 * time.Second
	// defaultTokenAge is what a token without expires_in lives (Docker's token
	// specification), and minTokenAge what we believe of shorter claims: zero
	// would mean a token request with each request.
	defaultTokenAge = 60 * time.Second
	minTokenAge     = time.Second
	// maxTokenAge is when a token is renewed even if it says that it lives longer.
	maxTokenAge = time.Hour
	// maxToken bounds a token server's answer; tokens of 10 KiB do occur.
	maxToken = 64 << 10
)

// A token is a bearer token and when to have a new one.
type token struct {
	value string
	until time.Time
}

// A flight is one token request that any number of callers wait for.
type flight struct {
	done  chan struct{} // closed when the result stands
	token token
	err   error
}

// token returns a token for repo, from memory or from the token server. The request
// outlives its callers: the next one has the use of it.
func (a *authorizer) token(ctx context.Context, repo string, w way, cr credentials) (t token, fresh bool, err error) {
	a.mu.Lock()
	if t, ok := a.tokens.Get(repo); ok && time.Now().Before(t.until) {
		a.mu.Unlock()
		return t, false, nil
	}
	f := a.flights[repo]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		a.flights[repo] = f
		a.running.Add(1)
		go a.fly(f, repo, w, cr)
	}
	a.mu.Unlock()
	select {
	case <-f.done:
		return f.token, true, f.err
	case <-ctx.Done():
		return token{}, false, fmt.Errorf("waiting for a token: %w", context.Cause(ctx))
	}
}

func (a *authorizer) fly(f *flight, repo string, w way, cr credentials) {
	defer a.running.Done()
	ctx, cancel := context.WithTimeout(a.ctx, tokenTimeout)
	defer cancel()
	f.token, f.err = a.c.fetchToken(ctx, repo, w, cr)
	a.mu.Lock()
	delete(a.flights, repo)
	if f.err == nil {
		a.tokens.Add(repo, f.token)
	}
	a.mu.Unlock()
	a.c.status.token(f.err)
	close(f.done)
}

// fetchToken asks the token server: by GET with the password, or by POST with an
// identity token, which is how OAuth2 logins are kept in the Docker config.
func (c *Client) fetchToken(ctx context.Context, repo string, w way, cr credentials) (token, error) {
	a := &ask{kind: "token", what: "token for " + repo, method: http.MethodGet, repo: repo}
	u, err := url.Parse(w.realm)
	if err != nil {
		return token{}, c.fail(a, err)
	}
	q := u.Query()
	w.query(q, repo)
	auth, form := "", ""
	switch {
	case cr.IdentityToken != "":
		a.method = http.MethodPost
		q["scope"] = []string{strings.Join(q["scope"], " ")}
		q.Set("grant_type", "refresh_token")
		q.Set("refresh_token", cr.IdentityToken)
		q.Set("client_id", userAgent)
		form = q.Encode()
		u.RawQuery = ""
	default:
		if !cr.anonymous() {
			auth = basic(cr)
		}
		u.RawQuery = q.Encode()
	}
	start := time.Now()
	resp, err := c.askToken(ctx, a, u, auth, form)
	if err != nil {
		return token{}, c.fail(a, err)
	}
	if resp.StatusCode != http.StatusOK {
		return token{}, c.tokenRefused(a, resp)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxToken+1))
	if err != nil {
		return token{}, c.fail(a, err)
	}
	var said struct {
		Token       string  `json:"token"`
		AccessToken string  `json:"access_token"`
		ExpiresIn   float64 `json:"expires_in"`
	}
	if err := json.Unmarshal(b, &said); err != nil || len(b) > maxToken {
		return token{}, c.fail(a, errUnfit)
	}
	t := token{value: said.Token}
	if t.value == "" {
		t.value = said.AccessToken
	}
	if t.value == "" || strings.ContainsFunc(t.value, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return token{}, c.fail(a, errUnfit)
	}
	t.until = start.Add(tokenAge(said.ExpiresIn))
	return t, nil
}

// tokenAge is how long to use a token that says it lives for so many seconds: nine
// tenths, so that it does not run out under way.
func tokenAge(seconds float64) time.Duration {
	if seconds <= 0 {
		return defaultTokenAge * 9 / 10
	}
	seconds = min(seconds, maxTokenAge.Seconds())
	return max(time.Duration(seconds*0.9*float64(time.Second)), minTokenAge)
}

// tokenRefused makes the error of a token server's no. 401 and 403 are about our
// credentials and the repository; anything else, 404 too, is about the server.
func (c *Client) tokenRefused(a *ask, resp *http.Response) error {
	err := c.refuse(a, resp)
	var e *Error
	if errors.As(err, &e) && e.Status != http.StatusUnauthorized && e.Status != http.StatusForbidden {
		e.Err, e.Status = fmt.Errorf("the token server answered %d", e.Status), tokenOutage(e.Status)
	}
	return err
}

// tokenOutage is the status under which a token server's failure is passed on: its
// 404 is not that of an image.
func tokenOutage(status int) int {
	if status == http.StatusTooManyRequests || status >= 500 {
		return status
	}
	return 0
}

// askToken sends the request and follows redirects that stay with the rules for
// realms. A POST is not redirected: it holds a secret.
func (c *Client) askToken(ctx context.Context, a *ask, u *url.URL, auth, form string) (*http.Response, error) {
	for range maxHops + 1 {
		req := (&http.Request{Method: a.method, URL: u, Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{"User-Agent": {userAgent}, "Accept-Encoding": {"identity"}}}).WithContext(ctx)
		if form != "" {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Body, req.ContentLength = io.NopCloser(strings.NewReader(form)), int64(len(form))
		}
		if auth != "" {
			req.Header.Set("Authorization", auth)
		}
		resp, err := c.transport.RoundTrip(req)
		if err != nil {
			c.observe(a.kind, 0)
			return nil, fmt.Errorf("asking the token server %s: %w", u.Host, err)
		}
		c.observe(a.kind, resp.StatusCode)
		if form != "" || resp.StatusCode < 301 || resp.StatusCode > 308 || resp.Header.Get("Location") == "" {
			return resp, nil
		}
		drain(resp)
		to, err := c.redirect(u, resp.Header.Get("Location"))
		if err != nil {
			return nil, err
		}
		if u, err = c.checkRealm(to.String()); err != nil {
			return nil, err
		}
	}
	return nil, final("the token server redirects more than %d times", maxHops)
}
