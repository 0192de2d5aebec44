package hub

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"hostlocal/manifest"
)

const tokenPath = "/token"

// Auth says what a hub asks of its clients. The zero value asks for a token that
// anybody gets.
type Auth struct {
	Username, Password string        // empty: everybody gets everything
	Anonymous          bool          // with a Username: who has none gets tokens too, but not for Private
	Private            []string      // repositories that take the credentials even so
	Identity           string        // an OAuth2 refresh token that POST takes; empty: no POST
	Basic              bool          // Basic at the registry itself, no tokens
	Separate           bool          // the token server is another port
	Realm              string        // what the challenge says instead of the right URL
	Expires            time.Duration // of tokens; 0: five minutes
	NoExpiry           bool          // expires_in is left out, which means 60 s
	Field              string        // "token" or "access_token"; empty: both
}

type authState struct {
	Auth
	realm  string
	tokens map[string]grant
	sweep  int  // when there are so many tokens, those that have expired go
	shaped bool // required by a Shape, which may take it back
}

type grant struct {
	scopes []string
	until  time.Time
}

// Require asks for authentication from now on.
func (h *Hub) Require(a Auth) { h.require(a, false) }

func (h *Hub) require(a Auth, shaped bool) {
	s := &authState{Auth: a, shaped: shaped, realm: h.URL + tokenPath, tokens: map[string]grant{}}
	if a.Separate {
		s.realm = h.tokens.URL + tokenPath
	}
	if a.Realm != "" {
		s.realm = a.Realm
	}
	if s.Expires == 0 {
		s.Expires = 5 * time.Minute
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.auth = s
}

// Revoke makes all tokens that were handed out so far invalid: 401.
func (h *Hub) Revoke() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.auth != nil {
		clear(h.auth.tokens)
	}
}

// TokenHost returns the address of the separate token server.
func (h *Hub) TokenHost() string { return h.tokens.Host }

// authorized reports whether the request may go on; if not, it has been answered.
func (x *exchange) authorized() bool {
	h := x.hub
	h.mu.Lock()
	a := h.auth
	if a == nil {
		h.mu.Unlock()
		return true
	}
	ok, reason := false, ""
	if a.Basic {
		user, pass, _ := x.r.BasicAuth()
		ok = user == a.Username && pass == a.Password
	} else if token, found := strings.CutPrefix(x.r.Header.Get("Authorization"), "Bearer "); found {
		g, known := a.tokens[token]
		switch {
		case !known || time.Now().After(g.until):
			reason = "invalid_token"
		case x.q.Repo != "" && !slices.Contains(g.scopes, scopeOf(x.q.Repo)):
			reason = "insufficient_scope"
		default:
			ok = true
		}
	}
	h.mu.Unlock()
	if !ok {
		x.challenge(reason)
	}
	return ok
}

// grant makes a token good; it is called with the hub's mu held. Those that have
// expired go whenever the number has doubled, so that a long storm, which asks for
// one a pull, keeps only twice what is good.
func (a *authState) grant(token string, scopes []string) {
	now := time.Now()
	if len(a.tokens) >= a.sweep {
		maps.DeleteFunc(a.tokens, func(_ string, g grant) bool { return now.After(g.until) })
		a.sweep = max(1000, 2*len(a.tokens))
	}
	a.tokens[token] = grant{scopes, now.Add(a.Expires)}
}

func scopeOf(repo string) string { return "repository:" + repo + ":pull" }

// challenge answers 401, and says how to do better if the hub asks for
// authentication.
func (x *exchange) challenge(reason string) {
	x.hub.mu.Lock()
	a := x.hub.auth
	if a != nil {
		c := fmt.Sprintf(`Bearer realm=%q,service=%q`, a.realm, "hubtest")
		if a.Basic {
			c = `Basic realm="hub"`
		} else {
			if x.q.Repo != "" {
				c += fmt.Sprintf(`,scope=%q`, scopeOf(x.q.Repo))
			}
			if reason != "" {
				c += fmt.Sprintf(`,error=%q`, reason)
			}
		}
		x.w.Header().Set("Www-Authenticate", c)
	}
	x.hub.mu.Unlock()
	x.fail(http.StatusUnauthorized, "UNAUTHORIZED")
}

func (h *Hub) serveToken(w http.ResponseWriter, r *http.Request) {
	q := describe(r)
	q.Kind = Token
	h.handle(w, r, q, func(x *exchange) {
		h.mu.Lock()
		a := h.auth
		h.mu.Unlock()
		if a == nil || a.Basic {
			x.fail(http.StatusNotFound, "UNSUPPORTED")
			return
		}
		scopes := r.URL.Query()["scope"]
		known := a.Username == "" && a.Identity == ""
		switch {
		case r.Method == http.MethodPost && a.Identity == "":
			x.fail(http.StatusMethodNotAllowed, "UNSUPPORTED")
			return
		case r.Method == http.MethodPost:
			r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
			scopes = strings.Fields(r.PostFormValue("scope"))
			known = r.PostFormValue("grant_type") == "refresh_token" && r.PostFormValue("refresh_token") == a.Identity
			if !known {
				x.fail(http.StatusUnauthorized, "UNAUTHORIZED")
				return
			}
		default:
			if user, pass, given := r.BasicAuth(); given {
				known = known || user == a.Username && pass == a.Password
				if !known {
					x.fail(http.StatusUnauthorized, "UNAUTHORIZED")
					return
				}
			}
		}
		if !known && !a.Anonymous {
			x.fail(http.StatusUnauthorized, "UNAUTHORIZED")
			return
		}
		if !known {
			scopes = slices.DeleteFunc(scopes, func(s string) bool {
				return slices.ContainsFunc(a.Private, func(repo string) bool { return s == scopeOf(repo) })
			})
		}
		token := rand.Text()
		h.mu.Lock()
		a.grant(token, scopes)
		h.mu.Unlock()
		body := map[string]any{"issued_at": time.Now().UTC().Format(time.RFC3339)}
		if a.Field != "access_token" {
			body["token"] = token
		}
		if a.Field != "token" {
			body["access_token"] = token
		}
		if !a.NoExpiry {
			body["expires_in"] = int(a.Expires.Seconds())
		}
		x.send(Literal(encode(body)), "application/json", manifest.Digest{})
	})
}
