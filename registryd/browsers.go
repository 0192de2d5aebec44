package registryd

import (
	"net"
	"net/http"
	"os"
	"strings"
)

// A hostGuard keeps web pages away from the admin API, which can evict images and
// shows what runs here. A browser on this host, or on one that reaches it, carries
// out requests for any page; two things give them away. The Origin and Sec-Fetch
// headers say which site a request is from. And a page whose own name was rebound
// to this address has that name in Host: only names that are this host's are
// answered.
type hostGuard struct {
	names     map[string]bool
	crossSite *http.CrossOriginProtection
	next      http.Handler
}

// newHostGuard lets requests to next that name this host by address, as
// localhost, by its own host name, or by one of names.
func newHostGuard(next http.Handler, names []string) *hostGuard {
	return &hostGuard{names: namesOfHost(names), crossSite: http.NewCrossOriginProtection(), next: next}
}

// namesOfHost is what this host is called, names included.
func namesOfHost(names []string) map[string]bool {
	all := map[string]bool{"localhost": true}
	if own, err := os.Hostname(); err == nil {
		names = append([]string{own, firstLabel(own)}, names...)
	}
	for _, n := range names {
		all[strings.ToLower(hostOnly(n))] = true
	}
	return all
}

func (g *hostGuard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case !overUnixSocket(r) && !g.known(r.Host):
		refuse(w, http.StatusMisdirectedRequest, "this is not a name of this host: ask by its address, or add the name to \"names\" in the configuration")
	case g.crossSite.Check(r) != nil, foreignOrigin(r), foreignFetch(r):
		refuse(w, http.StatusForbidden, "the admin API does not answer other sites' web pages")
	default:
		g.next.ServeHTTP(w, r)
	}
}

// overUnixSocket reports whether r came where no browser can come from; such a
// client has no name to put into Host.
func overUnixSocket(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && local.Network() == "unix"
}

// known reports whether host, with or without a port, is this host.
func (g *hostGuard) known(host string) bool {
	name := strings.ToLower(hostOnly(host))
	return name == "" || g.names[name] || net.ParseIP(name) != nil || strings.HasSuffix(name, ".localhost")
}

// foreignOrigin reports an Origin that is not the site that is asked: a page of
// this host itself may ask.
func foreignOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	return origin != "" && origin != "http://"+r.Host && origin != "https://"+r.Host
}

// foreignFetch reports a request that another site's page makes for itself, for
// instance as an image. A link that a person follows is none.
func foreignFetch(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return false
	}
	return r.Header.Get("Sec-Fetch-Mode") != "navigate"
}

// hostOnly is host without its port and without an IPv6 address's brackets.
func hostOnly(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.Trim(host, "[]")
}

func firstLabel(name string) string {
	first, _, _ := strings.Cut(name, ".")
	return first
}
