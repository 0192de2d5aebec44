package upstream

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// A guard dials. The upstream itself, the proxies that the environment names and
// the token servers that the configuration names may be anywhere; whatever else an
// answer leads to must not be an address of this host or network, unless the
// upstream is in there too. The check is on the address that is about to be
// connected to: names that resolve to something else the second time do not pass.
type guard struct {
	own     string // host:port of the upstream
	trusted []string
	pick    func(*http.Request) (*url.URL, error)
	proxies sync.Map // host:port of proxies that pick has named

	ownIsInside atomic.Bool // the upstream's own address is not a public one
}

func newGuard(base *url.URL, authHosts []string, proxy func(*http.Request) (*url.URL, error)) *guard {
	g := &guard{own: hostPort(base), pick: proxy}
	for _, h := range authHosts {
		g.trusted = append(g.trusted, strings.ToLower(h))
	}
	if ip, err := netip.ParseAddr(base.Hostname()); err == nil {
		g.ownIsInside.Store(inside(ip))
	}
	return g
}

// hostPort returns what the transport dials for u.
func hostPort(u *url.URL) string {
	port := map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	return net.JoinHostPort(strings.ToLower(u.Hostname()), cmp.Or(u.Port(), port))
}

// proxy is the transport's Proxy: the environment's, remembered as a place that
// may be dialled.
func (g *guard) proxy(req *http.Request) (*url.URL, error) {
	u, err := g.pick(req)
	if err == nil && u != nil {
		g.proxies.Store(hostPort(u), true)
	}
	return u, err
}

func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	address = strings.ToLower(address)
	host, _, _ := net.SplitHostPort(address)
	_, isProxy := g.proxies.Load(address)
	switch {
	case address == g.own:
		d.Control = func(_, address string, _ syscall.RawConn) error {
			if ap, err := netip.ParseAddrPort(address); err == nil {
				g.ownIsInside.Store(inside(ap.Addr()))
			}
			return nil
		}
	case isProxy, slices.Contains(g.trusted, host), slices.Contains(g.trusted, address):
	default:
		d.Control = func(_, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			if inside(ap.Addr()) && !g.ownIsInside.Load() {
				return final("%s is %s, an address of this host or network, which a public upstream does not get to name", host, ap.Addr())
			}
			return nil
		}
	}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", host, err)
	}
	return conn, nil
}

// notPublic are the networks that are neither private, loopback nor link-local by
// net/netip's words but are not the internet either: "this network", carrier grade
// NAT (where clouds keep services too), protocol assignments, benchmarks, reserved.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("fec0::/10"),
}

// nat64 is the prefix under which IPv6-only networks reach IPv4 addresses, and
// sixToFour the one that embeds them behind its first two bytes.
var nat64, sixToFour = netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("2002::/16")

// inside reports whether ip is not an address of the public internet.
func inside(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	b := ip.As16()
	switch {
	case nat64.Contains(ip):
		ip = netip.AddrFrom4([4]byte(b[12:]))
	case sixToFour.Contains(ip):
		ip = netip.AddrFrom4([4]byte(b[2:6]))
	}
	return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() ||
		slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(ip) })
}
