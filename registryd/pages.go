package registryd

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// pages tells the requests of web pages, which a browser on this host carries out
// for any of them, from those of clients of registries, of which none is a browser.
// A page could have images pulled until the cache holds nothing else, and read with
// this host's credentials what is nobody's business.
//
// Most of them say so themselves, by an Origin or by Sec-Fetch-Site. A page whose
// own name was rebound to this address asks its own site, so it sends neither; but
// it has that name in Host, and it is one that somebody could register. On loopback
// clients call this host by an address, by a word ("registryd:5000"), or by a name
// of a private network; one that is called by a public name is told so in "names".
// Others' names for a listener that is open to the network cannot be known.
type pages struct {
	names map[string]bool // public names that are this host's
}

func newPages(names []string) pages { return pages{namesOfHost(names)} }

// sent reports whether r is a page's.
func (p pages) sent(r *http.Request) bool {
	return len(r.Header["Origin"]) > 0 || len(r.Header["Sec-Fetch-Site"]) > 0 && foreignFetch(r) ||
		p.registrable(r.Host) && overLoopback(r)
}

// registrable reports whether host, with or without a port, is a name that anybody
// could have registered to lead here.
func (p pages) registrable(host string) bool {
	name := strings.TrimSuffix(hostOnly(host), ".")
	if _, err := netip.ParseAddr(name); err == nil || strings.IndexByte(name, '.') < 0 {
		return false
	}
	name = strings.ToLower(name)
	if p.names[name] {
		return false
	}
	suffix, managed := publicsuffix.PublicSuffix(name)
	return managed || strings.IndexByte(suffix, '.') >= 0 // or by a company for its customers
}

// overLoopback reports whether r came to a loopback address: from this host.
func overLoopback(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.IP.IsLoopback()
}
