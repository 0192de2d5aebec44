package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
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
// none: from its own keys, or from the Docker configuration.
func (u *upstreamConfig) credentials() string {
	if u.username != "" {
		return "its username"
	}
	registry, err := name.NewRegistry(u.name)
	if err != nil {
		return ""
	}
	found := make(chan bool, 1)
	go func() {
		a, err := authn.DefaultKeychain.Resolve(registry)
		found <- err != nil || a != authn.Anonymous
	}()
	select {
	case yes := <-found:
		if !yes {
			return ""
		}
	case <-time.After(helperLimit): // the helper is there, so it is for something
	}
	return fmt.Sprintf("of %s in the Docker configuration", registry.Name())
}

// helperLimit bounds the wait for a credential helper, which is a program of
// somebody else's and may wait for a key to be unlocked.
const helperLimit = 3 * time.Second

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
