package main

import (
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
)

// check adds to p what no value says by itself: what does not go together, and
// what this host cannot do.
func (c *config) check(p *problems) {
	c.checkListeners(p)
	if folder, err := filepath.Abs(c.cache.dir); err == nil {
		c.cache.dir = folder
	}
	if err := usable(c.cache.dir); err != nil {
		p.add(c.origin["cache.dir"], "cache.dir: %v", err)
	}
	if c.cache.size.bytes == 0 && c.cache.size.percent == 0 {
		p.add(c.origin["cache.size"], "cache.size: 0 leaves no room at all; write 50GiB or 80%%")
	}
	if c.log.access != "" {
		if err := usable(filepath.Dir(c.log.access)); err != nil {
			p.add(c.origin["log.access"], "log.access: %v", err)
		}
	}
	c.checkStore(p)
	c.checkUpstreams(p)
	c.checkWebhooks(p)
	c.checkShared(p, c.listen)
}

// checkListeners checks that each address can be listened on, in principle.
func (c *config) checkListeners(p *problems) {
	for _, l := range []struct {
		key       string
		addresses []string
	}{{"listen", c.listen}, {"admin", c.admin}} {
		if len(l.addresses) == 0 {
			p.add(c.origin[l.key], "%s: no address; write 127.0.0.1:5000 or unix:///run/registryd.sock", l.key)
		}
		for _, address := range l.addresses {
			if err := checkAddress(address); err != "" {
				p.add(c.origin[l.key], "%s: %s", l.key, err)
			}
		}
	}
}

// checkAddress returns what is wrong with a listener's address, or "".
func checkAddress(address string) string {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		// sun_path has 108 bytes with its NUL, and the kernel's own message does not say so.
		if !filepath.IsAbs(path) || len(path) > 107 {
			return quoted(address, "is not a socket's path; write unix:///run/registryd.sock, at most 107 bytes after unix://")
		}
		return ""
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return quoted(address, "is not an address; write host:port (127.0.0.1:5000, or :5000 for every interface) or unix:///path")
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return quoted(address, "has no port from 0 to 65535")
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && host != "localhost" {
		return quoted(address, "listens on a name; write the IP address, so that DNS cannot move it")
	}
	return ""
}

// checkStore checks that store.url names a bucket or a folder.
func (c *config) checkStore(p *problems) {
	where := c.origin["store.url"]
	u, err := url.Parse(c.store.url)
	switch {
	case err != nil || (u.Scheme != "s3" && u.Scheme != "file"):
		p.add(where, "store.url: %s", quoted(c.store.url, "is not a store; write s3://bucket/prefix or file:///folder"))
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		p.add(where, "store.url: takes only s3://bucket/prefix or file:///folder; credentials come from AWS_ACCESS_KEY_ID and its like")
	case u.Scheme == "s3" && len(u.Host) < 3:
		p.add(where, "store.url: %s", quoted(c.store.url, "names no bucket (they have at least 3 letters); write s3://bucket/prefix"))
	case u.Scheme == "file" && u.Host != "":
		p.add(where, "store.url: %s", quoted(c.store.url, "names a host; write file:///"+u.Host+u.Path+" with three slashes"))
	case u.Scheme == "file" && u.Path == "":
		p.add(where, "store.url: %s", quoted(c.store.url, "names no folder; write file:///var/lib/registryd"))
	case u.Scheme == "file":
		if err := readable(u.Path); err != nil {
			p.add(where, "store.url: %v", err)
		} else if inside(c.cache.dir, u.Path) || inside(u.Path, c.cache.dir) {
			p.add(where, "store.url: %s and cache.dir %s lie in one another; the cache evicts what it finds there, so give each a folder of its own", u.Path, c.cache.dir)
		}
	}
	if e := c.store.s3.endpoint; e != "" {
		if u, err := url.Parse(e); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.User != nil {
			p.add(c.origin["store.s3.endpoint"], "store.s3.endpoint: is not an address; write http://host:9000 or https://host, without bucket and credentials")
		}
	}
}

// inside reports whether path is folder or lies below it.
func inside(folder, path string) bool {
	rel, err := filepath.Rel(folder, path)
	return err == nil && (rel == "." || filepath.IsLocal(rel))
}

// quoted is a value and what is wrong with it.
func quoted(v, what string) string { return `"` + v + `" ` + what }
