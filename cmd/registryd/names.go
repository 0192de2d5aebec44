package main

import (
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
		e.Policy = registryd.PolicyOf(c.policies(), m.Name, tag).String()
	}
	return e, nil
}
