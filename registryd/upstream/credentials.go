package upstream

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

const (
	// credentialsAge is how long what the keychain said is used. Helpers of clouds
	// hand out passwords that live for hours, and starting one costs tens of
	// milliseconds; a 401 asks again at once.
	credentialsAge = 5 * time.Minute
	// credentialsTimeout bounds a helper: some ask a network of their own.
	credentialsTimeout = 3 * time.Second
)

// credentials are what the upstream may know of us for one repository.
type credentials struct {
	authn.AuthConfig
	host  string // under which the keychain has them
	until time.Time
	// broken is why the keychain has no answer. We go on without credentials then,
	// since most images need none, but a no that follows is not the upstream's.
	broken error
}

func (c credentials) anonymous() bool {
	return c.Username == "" && c.Password == "" && c.IdentityToken == "" && c.RegistryToken == ""
}

// lookup asks the configuration, then the keychain under each name that the
// upstream has.
func (c *Client) lookup(ctx context.Context, repo string) credentials {
	out := c.find(ctx, repo)
	if !out.anonymous() {
		c.credentialed.Store(true)
	}
	return out
}

// Credentialed reports whether credentials were found for any repository that the
// upstream was asked for.
func (c *Client) Credentialed() bool { return c.credentialed.Load() }

func (c *Client) find(ctx context.Context, repo string) credentials {
	out := credentials{until: time.Now().Add(credentialsAge)}
	switch {
	case c.cfg.Username != "":
		out.Username, out.Password = c.cfg.Username, c.cfg.Password
		return out
	case c.cfg.Keychain == nil:
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	type answer struct {
		cfg  *authn.AuthConfig
		host string
		err  error
	}
	// A keychain may run a program, and not every keychain can be called off: the
	// answer of one that is too late is left where nobody reads it.
	answers := make(chan answer, 1)
	go func() {
		cfg, host, err := c.askKeychain(ctx, repo)
		answers <- answer{cfg, host, err}
	}()
	select {
	case a := <-answers:
		out.broken = a.err
		if a.cfg != nil {
			out.AuthConfig, out.host = *a.cfg, a.host
		}
	case <-ctx.Done():
		out.broken = fmt.Errorf("credentials of %s: %w", c.cfg.Name, context.Cause(ctx))
	}
	if out.broken != nil {
		out.until = time.Now() // not worth remembering
	}
	return out
}

// KeychainName returns the name under which the Keychain has credentials for the
// upstream or one of its repositories, of all that a Client would look under; it is
// empty if there are none. filed are names that may be of repositories,
// "ghcr.io/owner/app": a keychain does not list them. A keychain that fails or is late
// counts as one that has credentials: it is there for something. The wait is bounded.
func (cfg Config) KeychainName(ctx context.Context, filed []string) (string, error) {
	cfg.Username, cfg.Password = "", ""
	c, err := New(cfg)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	own := c.names()
	for _, name := range append([]string{c.base.Host}, filed...) {
		host, repo, _ := strings.Cut(name, "/")
		if !slices.Contains(own, host) {
			continue
		}
		switch cr := c.lookup(ctx, repo); {
		case cr.broken != nil:
			return name, nil
		case !cr.anonymous() && repo == "":
			return cr.host, nil
		case !cr.anonymous():
			return name, nil
		}
	}
	return "", nil
}

func (c *Client) askKeychain(ctx context.Context, repo string) (cfg *authn.AuthConfig, host string, err error) {
	for _, host := range c.names() {
		auth, err := authn.Resolve(ctx, c.cfg.Keychain, resource{host, repo})
		if err != nil {
			return nil, "", fmt.Errorf("credentials of %s: %w", host, err)
		}
		if auth == authn.Anonymous {
			continue
		}
		cfg, err := authn.Authorization(ctx, auth)
		if err != nil {
			return nil, "", fmt.Errorf("credentials of %s: %w", host, err)
		}
		if cfg != nil && *cfg != (authn.AuthConfig{}) {
			return cfg, host, nil
		}
	}
	return nil, "", nil
}

// names are the hosts under which credentials may lie. Docker files those of its
// hub under index.docker.io, whatever the host that is talked to.
func (c *Client) names() []string {
	out := []string{c.base.Host}
	for _, h := range append([]string{c.cfg.Name}, c.cfg.Hosts...) {
		if !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	isHub := slices.ContainsFunc(out, func(h string) bool { return h == "docker.io" || strings.HasSuffix(h, ".docker.io") })
	if isHub && !slices.Contains(out, "index.docker.io") {
		out = append(out, "index.docker.io")
	}
	return out
}

// resource is a repository in a keychain's words.
type resource struct{ host, repo string }

func (r resource) String() string      { return strings.TrimSuffix(r.host+"/"+r.repo, "/") }
func (r resource) RegistryStr() string { return r.host }
