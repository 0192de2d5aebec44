package upstream

import (
	"context"
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// rememberedTokens bounds tokens and credentials, one each a repository and some
// KiB in size. Forgetting one costs a request.
const rememberedTokens = 1024

// An authorizer knows how the upstream wants to be convinced. It learns it from the
// first 401 and is then ahead of the next ones.
type authorizer struct {
	c *Client

	ctx    context.Context // of token requests, which outlive their callers but not the client
	cancel context.CancelFunc

	mu          sync.Mutex // guards what follows; no I/O under it
	way         way
	tokens      *simplelru.LRU[string, token]       // by repository
	credentials *simplelru.LRU[string, credentials] // by repository
	flights     map[string]*flight                  // token requests under way, by repository
	running     sync.WaitGroup
}

// A way is what a challenge asked for. The zero value is: nothing.
type way struct {
	scheme  string // "", basic or bearer
	realm   string
	service string
	scope   string // besides the repository's own
}

func newAuthorizer(c *Client) *authorizer {
	a := &authorizer{c: c, flights: map[string]*flight{}}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.tokens, _ = simplelru.NewLRU[string, token](rememberedTokens, nil)
	a.credentials, _ = simplelru.NewLRU[string, credentials](rememberedTokens, nil)
	return a
}

// An authorization is a header's value and where it came from.
type authorization struct {
	value string
	way   way
	fresh bool // made for this request: a 401 to it is the upstream's word
	// broken is why there may be better credentials that could not be had.
	broken error
}

// header returns what to send as Authorization, fetching a token if one is needed.
func (a *authorizer) header(ctx context.Context, repo string) (authorization, error) {
	a.mu.Lock()
	w := a.way
	a.mu.Unlock()
	out := authorization{way: w}
	if w.scheme == "" {
		return out, nil
	}
	cr, fresh := a.known(ctx, repo)
	out.broken = cr.broken
	switch {
	case cr.RegistryToken != "":
		out.value, out.fresh = "Bearer "+cr.RegistryToken, fresh
	case w.scheme == "basic":
		out.fresh = true
		if !cr.anonymous() {
			out.value, out.fresh = basic(cr), fresh
		}
	default:
		t, fresh, err := a.token(ctx, repo, w, cr)
		if err != nil {
			return out, withBroken(err, cr.broken)
		}
		out.value, out.fresh = "Bearer "+t.value, fresh
	}
	return out, nil
}

func basic(cr credentials) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(cr.Username+":"+cr.Password))
}

// withBroken turns a no into an outage if the credentials could not be had.
func withBroken(err, broken error) error {
	if broken == nil || Outage(err) {
		return err
	}
	return broken
}

// known returns the credentials for repo, and whether they were looked up just now.
func (a *authorizer) known(ctx context.Context, repo string) (cr credentials, fresh bool) {
	a.mu.Lock()
	cr, ok := a.credentials.Get(repo)
	a.mu.Unlock()
	if ok && time.Now().Before(cr.until) {
		return cr, false
	}
	cr = a.c.lookup(ctx, repo)
	if cr.broken == nil {
		a.mu.Lock()
		a.credentials.Add(repo, cr)
		a.mu.Unlock()
	}
	return cr, true
}

// challenged learns from a 401 to a request that carried used, and reports whether
// the request is worth repeating. An error says that it cannot be told, or that the
// challenge leads where we do not go.
func (a *authorizer) challenged(repo string, headers []string, used authorization) (again bool, err error) {
	w, ok, err := a.c.chooseWay(parseChallenges(headers))
	if err != nil {
		return false, err
	}
	if !ok {
		return false, used.broken
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	moved := used.way != w
	a.way = w
	if used.fresh && !moved {
		return false, used.broken
	}
	if t, ok := a.tokens.Peek(repo); ok && "Bearer "+t.value == used.value {
		a.tokens.Remove(repo)
	}
	if used.value != "" && !used.fresh {
		a.credentials.Remove(repo)
	}
	return true, nil
}

// chooseWay picks what we can do of what is offered, tokens before passwords.
func (c *Client) chooseWay(offered []challenge) (w way, ok bool, err error) {
	byScheme := func(scheme string) (challenge, bool) {
		i := slices.IndexFunc(offered, func(ch challenge) bool { return ch.scheme == scheme })
		if i < 0 {
			return challenge{}, false
		}
		return offered[i], true
	}
	if ch, found := byScheme("bearer"); found {
		realm, err := c.checkRealm(ch.params["realm"])
		if err != nil {
			return way{}, false, err
		}
		w := way{scheme: "bearer", realm: realm.String(), service: ch.params["service"]}
		// The scope of a repository is ours to say; some add a word of their own,
		// as public.ecr.aws does.
		if s := ch.params["scope"]; len(s) < 64 && !strings.Contains(s, ":") {
			w.scope = s
		}
		return w, true, nil
	}
	if _, found := byScheme("basic"); found {
		return way{scheme: "basic"}, true, nil
	}
	return way{}, false, nil
}

// close ends the token requests that are under way.
func (a *authorizer) close() {
	a.cancel()
	a.running.Wait()
}

// errUnfit is the error of a token server's answer that is none.
var errUnfit = errors.New("the token server's answer holds no token")

// query adds what is asked of the token server to v.
func (w way) query(v url.Values, repo string) {
	if w.service != "" {
		v.Set("service", w.service)
	}
	v["scope"] = nil
	if repo != "" {
		v.Add("scope", "repository:"+repo+":pull")
	}
	if w.scope != "" {
		v.Add("scope", w.scope)
	}
}
