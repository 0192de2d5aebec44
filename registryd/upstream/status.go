package upstream

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Status is what a person wants to know of an upstream.
type Status struct {
	Name        string    `json:"name"`
	URL         string    `json:"url"`
	DownSince   time.Time `json:"downSince,omitzero"` // zero: the last exchange was answered
	LastError   string    `json:"lastError,omitempty"`
	LastErrorAt time.Time `json:"lastErrorAt,omitzero"`
	Auth        string    `json:"auth,omitempty"` // what it asked for: basic, bearer; empty: nothing yet
	Tokens      int       `json:"tokens"`         // kept, one a repository
	TokenError  string    `json:"tokenError,omitempty"`
	RateLimit   RateLimit `json:"rateLimit,omitzero"`
	GetOnly     bool      `json:"getOnly"` // HEAD of a manifest is of no use there
}

// RateLimit is what the last answer with such headers said.
type RateLimit struct {
	Limit     int           `json:"limit"`
	Remaining int           `json:"remaining"`
	Window    time.Duration `json:"window,omitempty"` // for which Limit counts; 0: not said
	At        time.Time     `json:"at"`
}

type statusKeeper struct {
	mu sync.Mutex // guards what follows
	s  Status
}

// failed notes an exchange that brought nothing; a no and a caller who left are
// not failures.
func (k *statusKeeper) failed(err error) {
	if !Outage(err) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	k.s.LastError, k.s.LastErrorAt = err.Error(), now
	if k.s.DownSince.IsZero() {
		k.s.DownSince = now
	}
}

// answered notes what an answer says of the upstream's state.
func (k *statusKeeper) answered(resp *http.Response) {
	limit, window, hasLimit := rate(resp.Header.Get("Ratelimit-Limit"))
	remaining, w, hasRemaining := rate(resp.Header.Get("Ratelimit-Remaining"))
	up := resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests
	k.mu.Lock()
	defer k.mu.Unlock()
	if hasLimit || hasRemaining {
		k.s.RateLimit = RateLimit{limit, remaining, max(window, w), time.Now()}
	}
	if up {
		k.s.DownSince = time.Time{}
	}
}

func (k *statusKeeper) token(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.s.TokenError = ""
	if err != nil {
		k.s.TokenError = err.Error()
	}
}

// rate reads "100;w=21600" as Docker Hub says it, or "100".
func rate(v string) (n int, window time.Duration, ok bool) {
	num, rest, _ := strings.Cut(v, ";")
	n, err := strconv.Atoi(strings.TrimSpace(num))
	if err != nil || n < 0 {
		return 0, 0, false
	}
	if w, found := strings.CutPrefix(strings.TrimSpace(rest), "w="); found {
		if s, err := strconv.ParseInt(w, 10, 32); err == nil && s > 0 {
			window = time.Duration(s) * time.Second
		}
	}
	return n, window, true
}

// Status returns the upstream's state as its answers have shown it. It asks
// nobody.
func (c *Client) Status() Status {
	c.status.mu.Lock()
	s := c.status.s
	c.status.mu.Unlock()
	s.Name, s.URL, s.GetOnly = c.cfg.Name, c.base.String(), c.headIsUseless()
	c.auth.mu.Lock()
	s.Auth, s.Tokens = c.auth.way.scheme, c.auth.tokens.Len()
	c.auth.mu.Unlock()
	return s
}

// noted marks an answer that is an outage, and returns its error.
func (c *Client) noted(err error) error {
	var e *Error
	if errors.As(err, &e) && e.Status != 0 && (e.Status < 500 && e.Status != http.StatusTooManyRequests) {
		return err // an answer, though of no use
	}
	c.status.failed(err)
	return err
}
