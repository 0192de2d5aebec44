package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"hostlocal/registryd/upstream"
)

// checkShared adds a problem for each upstream whose credentials would speak for
// strangers: those who reach a listener that is not this host's alone pull with
// them. addresses are the registry's listeners.
func (c *config) checkShared(p *problems, addresses []string) {
	var open []string
	for _, a := range addresses {
		if !local(a) {
			open = append(open, a)
		}
	}
	if len(open) == 0 {
		return
	}
	for i := range c.upstreams {
		u := &c.upstreams[i]
		if u.shared {
			continue
		}
		if from := u.credentials(); from != "" {
			p.add(at(u.line), "upstreams.%s has credentials (%s), and %s is open to others, who would pull with them; "+
				"listen on 127.0.0.1 or a unix socket, or write shared: true if all who can connect may pull what these credentials may",
				u.name, from, strings.Join(open, " and "))
		}
	}
}

// checkDoors is checkShared for the sockets that were really opened, since
// systemd's replace the configured ones.
func (c *config) checkDoors(ls []net.Listener) error {
	var p problems
	var addresses []string
	for _, l := range ls {
		addresses = append(addresses, addressOf(l))
	}
	c.checkShared(&p, addresses)
	return p.err()
}

// credentials says where the upstream's credentials come from, or "" if it has
// none: from its own keys, or from the Docker configuration, where they may be those
// of a single repository.
func (u *upstreamConfig) credentials() string {
	if u.username != "" {
		return "its username"
	}
	own := upstream.Config{Name: u.name, URL: u.url, Hosts: u.hosts, Keychain: authn.DefaultKeychain}
	name, err := own.KeychainName(context.Background(), dockerNames())
	if err != nil || name == "" {
		return "" // what is wrong with the url is said elsewhere
	}
	return fmt.Sprintf("of %s in the Docker configuration", name)
}

// local reports whether only this host can connect to the listener's address.
func local(address string) bool {
	if strings.HasPrefix(address, "unix://") {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}
