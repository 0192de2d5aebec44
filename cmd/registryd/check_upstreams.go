package main

import (
	"net"
	"net/netip"
	"net/url"
	"os"
	"path"
	"strings"
)

// checkUpstreams checks each upstream, that no two claim the same host, and that
// the default one exists.
func (c *config) checkUpstreams(p *problems) {
	claimed := map[string]string{}
	for i := range c.upstreams {
		u := &c.upstreams[i]
		if !hostPattern.MatchString(u.name) {
			p.add(at(u.line), "upstreams: %s", quoted(u.name, "is not a registry's name as images have it; write ghcr.io or registry.corp:5000, in lower case"))
		}
		for _, host := range append([]string{u.name}, u.hosts...) {
			if other, ok := claimed[host]; ok && other != u.name {
				p.add(at(u.line), "upstreams.%s: %s already means the upstream %s; each host can mean one", u.name, host, other)
			}
			claimed[host] = u.name
		}
		u.check(p)
		if u.credentials() && !u.shared {
			for _, l := range c.listen {
				if !local(l) {
					p.add(at(u.line), "upstreams.%s has credentials, and listen %s is open to others, who would pull with them; "+
						"listen on 127.0.0.1 or a unix socket, or write shared: true if all who can connect may pull what these credentials may", u.name, l)
				}
			}
		}
	}
	if c.defaultName != "" && c.upstream(c.defaultName) == nil {
		p.add(c.origin["default_upstream"], "default_upstream: %s", quoted(c.defaultName, "is not among the upstreams; add it there"))
	}
}

// check checks what concerns only this upstream.
func (u *upstreamConfig) check(p *problems) {
	bad := func(key, what string) { p.add(at(u.line), "upstreams.%s.%s: %s", u.name, key, what) }
	parsed, err := url.Parse(u.url)
	switch {
	case err != nil || (parsed.Scheme != "http" && parsed.Scheme != "https") || parsed.Host == "":
		bad("url", "is not an address; write https://"+u.name)
	case parsed.User != nil:
		bad("url", "carries credentials; write them as username and password_file")
	case strings.Trim(parsed.Path, "/") != "" || parsed.RawQuery != "" || parsed.Fragment != "":
		bad("url", "goes on after the host; write "+parsed.Scheme+"://"+parsed.Host)
	}
	if (u.username == "") != (u.password == "" && u.passwordFile == "") {
		bad("username", "goes together with password or password_file; write both or neither")
	}
	if u.password != "" && u.passwordFile != "" {
		bad("password", "is given twice; write password or password_file")
	}
	for key, file := range map[string]string{"password_file": u.passwordFile, "ca_file": u.caFile} {
		if file == "" {
			continue
		}
		if f, err := os.Open(file); err != nil {
			bad(key, err.Error())
		} else {
			f.Close()
		}
	}
	for _, t := range u.tags {
		if _, err := path.Match(t.match, ""); err != nil {
			bad("tags", quoted(t.match, "is not a pattern; * stands for any letters and ? for one"))
		}
	}
}

// credentials reports whether the upstream has keys of its own. What the Docker
// configuration knows comes on top; see wiring.
func (u *upstreamConfig) credentials() bool { return u.username != "" }

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
