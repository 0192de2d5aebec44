package main

import (
	"path"

	"hostlocal/manifest"
	"hostlocal/registryd"
)

// meanings returns what decides which repository a name means.
func (c *config) meanings() *manifest.Names {
	n := &manifest.Names{Self: c.names, Own: c.own, Default: c.defaultName}
	for _, u := range c.upstreams {
		n.Upstreams = append(n.Upstreams, manifest.Upstream{Name: u.name, Hosts: u.hosts})
	}
	return n
}

// explain is what a daemon with this configuration and nothing on its disk would
// say of a name.
func (c *config) explain(name string) (registryd.Explanation, error) {
	m, tag, digest, err := c.meanings().ParseImage(name)
	if err != nil {
		return registryd.Explanation{}, err
	}
	e := registryd.Explanation{
		Name: name, Repository: m.Name.String(), Upstream: m.Name.Host, Path: m.Name.Path,
		Why: m.Why, Tag: tag, Digest: digest,
	}
	if tag != "" {
		e.Policy = c.policy(m.Name, tag)
	}
	return e, nil
}

// policy says in words which rule the tag falls under.
func (c *config) policy(n manifest.Name, tag string) string {
	if u := c.upstream(n.Host); u != nil {
		for _, t := range u.tags {
			byTag, _ := path.Match(t.match, tag)
			byName, _ := path.Match(t.match, n.Path+":"+tag)
			if t.match != "*" && !byTag && !byName {
				continue
			}
			if t.policy == "ttl" {
				return "ttl " + t.ttl.String()
			}
			return t.policy
		}
		return "ttl " + defaultTTL.String()
	}
	return "always"
}
