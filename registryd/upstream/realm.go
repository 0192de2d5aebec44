package upstream

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// checkRealm says whether the token server that a challenge names may be asked
// with the upstream's credentials: a server of the same site, as docker.io's
// auth.docker.io is, or one that the configuration names.
func (c *Client) checkRealm(realm string) (*url.URL, error) {
	u, err := url.Parse(realm)
	if err != nil || u.Host == "" || u.User != nil {
		return nil, final("the token server in the challenge is not a URL")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || c.base.Scheme != "http") {
		return nil, final("the token server %s://%s is not https, but the upstream is", u.Scheme, u.Host)
	}
	if sameSite(u.Hostname(), c.base.Hostname()) || slices.ContainsFunc(c.cfg.AuthHosts, func(h string) bool {
		return strings.EqualFold(h, u.Hostname()) || strings.EqualFold(h, u.Host)
	}) {
		u.Fragment = ""
		return u, nil
	}
	return nil, final("the token server %s is not of the upstream's domain: if it is right, add %q to the upstream's auth_hosts", u.Host, u.Hostname())
}

// sameSite reports whether two hosts are one, or lie in one registrable domain.
// Addresses and single words have none.
func sameSite(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	for _, h := range []string{a, b} {
		if _, err := netip.ParseAddr(h); err == nil {
			return false
		}
	}
	da, errA := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(a))
	db, errB := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(b))
	return errA == nil && errB == nil && da == db
}
