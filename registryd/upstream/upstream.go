// Package upstream is the client of one origin registry: docker.io, ghcr.io, one
// of your own. It asks for manifests, tags and ranges of blobs, and knows how the
// origin wants to be asked.
//
//	Head, Manifest, Tags, OpenBlob
//	   └─ retry ── a few tries within seconds
//	        └─ do ── authorization (challenge, token, credentials)
//	             └─ hops ── redirects, without credentials
//	                  └─ transport ── guarded dialer, TLS, proxy
//
// It keeps three things: credentials go to the site that they belong to and
// nowhere else; every wait has a bound, and what comes of it says whether the
// origin answered no (fs.ErrNotExist, fs.ErrPermission) or could not be asked
// (everything else, an outage); and no manifest leaves it whose bytes were not
// checked against the digest that named them. Blobs are hashed by their reader.
package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// A Config says where an upstream is and how to talk to it. Only URL must be set.
type Config struct {
	Name  string   // what people call it: docker.io; default the URL's host
	URL   string   // https://registry-1.docker.io; http:// where it is meant
	Hosts []string // further names of it, under which credentials may be found

	// Credentials of its own, before the Keychain's.
	Username, Password string
	// Keychain holds credentials by host, as the Docker config does
	// (authn.DefaultKeychain). nil: none but the ones above.
	Keychain authn.Keychain
	// AuthHosts are token servers outside of the upstream's domain that may see
	// its credentials.
	AuthHosts []string

	CAFile   string // PEM file of CAs to trust besides the system's
	Parallel int    // blob bodies open at once, others wait; 0: no bound

	StallTimeout  time.Duration // a body without a byte for so long is given up; default 5 s
	HeaderTimeout time.Duration // from a request to its answer's headers; default 5 s

	// Observe is told of every HTTP exchange: what was asked for (head, manifest,
	// blob, tags, referrers, token) and the status, 0 if there was none. ObserveBytes is told
	// of every read from a body. Both may be nil and must not block.
	Observe      func(kind string, code int)
	ObserveBytes func(n int64)
}

// The bounds of waits that no configuration moves.
const (
	// dialTimeout bounds connecting, all addresses of a name together, and the
	// TLS handshake again: an origin that needs longer is down for our purposes,
	// and clients wait on it.
	dialTimeout = 3 * time.Second
	// openTimeout bounds the time until a blob's headers, tokens, redirects and
	// retries included. A client is to have its error within 10 s; what is left is
	// for the bucket that was asked before.
	openTimeout = 8 * time.Second
	// manifestTimeout bounds a manifest for callers without a deadline.
	manifestTimeout = 30 * time.Second
	// idleTimeout closes connections that nobody used; origins close theirs after
	// one to five minutes, and a request that meets a closing one costs a retry.
	idleTimeout = 60 * time.Second
	// pingAfter is how long an HTTP/2 connection may be silent before it is asked
	// whether it lives. All requests share one; a dead one would fail them until the
	// kernel gives it up, a quarter of an hour later.
	pingAfter = 10 * time.Second
)

// A Client talks to one upstream. Its methods may be called from many goroutines.
type Client struct {
	cfg       Config
	base      *url.URL // no slash at its path's end
	transport *http.Transport
	guard     *guard
	auth      *authorizer
	slots     chan struct{} // nil without a bound
	silent    silences
	status    statusKeeper
	links     *links
	kept      *keptBodies
	// getOnly is until when HEAD is not tried, in Unix nanoseconds.
	getOnly      atomic.Int64
	credentialed atomic.Bool
}

// New checks cfg and returns its client. It makes no connection.
func New(cfg Config) (*Client, error) {
	base, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("upstream %s: url: %w", cfg.Name, err)
	}
	if cfg.Name == "" {
		cfg.Name = base.Host
	}
	problem := func(format string, args ...any) (*Client, error) {
		return nil, fmt.Errorf("upstream %s: "+format, append([]any{cfg.Name}, args...)...)
	}
	switch {
	case base.Scheme != "https" && base.Scheme != "http", base.Host == "":
		return problem("url %q: say https://HOST, or http://HOST for a registry without TLS", base.Redacted())
	case base.User != nil:
		return problem("url %q holds credentials: say username and password instead", base.Redacted())
	case base.RawQuery != "" || base.Fragment != "":
		return problem("url %q has a query or fragment", cfg.URL)
	case cfg.Password != "" && cfg.Username == "":
		return problem("a password without a username")
	}
	base.Path = strings.TrimRight(base.Path, "/")
	cfg.StallTimeout = orDefault(cfg.StallTimeout, 5*time.Second)
	cfg.HeaderTimeout = orDefault(cfg.HeaderTimeout, 5*time.Second)
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		if tlsConfig.RootCAs, err = loadCAs(cfg.CAFile); err != nil {
			return problem("ca file: %w", err)
		}
	}
	c := &Client{cfg: cfg, base: base, links: newLinks(), kept: newKeptBodies(),
		guard: newGuard(base, cfg.AuthHosts, http.ProxyFromEnvironment)}
	c.transport = &http.Transport{
		Proxy:                  c.guard.proxy,
		DialContext:            c.guard.dial,
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  cfg.HeaderTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    64,       // a storm's worth; each costs some 10 KiB until idleTimeout
		MaxResponseHeaderBytes: 64 << 10, // signed URLs take 2 KiB; more is an attack on memory
		DisableCompression:     true,     // bytes are stored as they come: identity or not at all
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: dialTimeout},
	}
	c.auth = newAuthorizer(c)
	if cfg.Parallel > 0 {
		c.slots = make(chan struct{}, cfg.Parallel)
	}
	return c, nil
}

// Close closes idle connections and ends token requests that are under way. Bodies
// that are open stay so until their readers close them. Nothing may be asked of the
// client any more.
func (c *Client) Close() {
	c.auth.close()
	c.transport.CloseIdleConnections()
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

func loadCAs(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New(path + " has no certificate in PEM form")
	}
	return pool, nil
}
