package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// load returns the effective configuration: the defaults, then the file (none if
// name is empty), then the environment. The error names every problem there is;
// the warnings are for what may be meant.
func load(name string, environ []string) (c *config, warnings []string, err error) {
	c = defaults()
	var p problems
	if name != "" {
		if err := c.readFile(name, &p); err != nil {
			return nil, nil, err
		}
	}
	for _, variable := range c.readEnv(environ, &p) {
		warnings = append(warnings, fmt.Sprintf("the environment variable %s sets no key and is ignored", variable))
	}
	c.complete()
	c.check(&p)
	if err := p.err(); err != nil {
		return nil, nil, err
	}
	return c, append(warnings, c.doubts()...), nil
}

// complete gives the keys that were not said the values that follow from those
// that were.
func (c *config) complete() {
	s3 := &c.store.s3
	if !c.said("store.s3.client") { // each SDK where its authors run it
		s3.client = "aws"
		if s3.endpoint != "" {
			s3.client = "minio"
		}
	}
	if !c.said("store.s3.path_style") { // bucket.host needs wildcard DNS, which only AWS surely has
		s3.pathStyle = s3.endpoint != ""
	}
	if !c.said("store.mirror") { // a bucket that was asked for is there to be shared
		c.store.mirror = c.said("store.url")
	}
	if !c.said("push") { // what others read too changes only where that was meant
		c.push = "loopback"
		if c.said("store.url") {
			c.push = "off"
		}
	}
	if !c.said("default_upstream") && c.upstream(dockerHub) == nil {
		c.defaultName = "" // the file's upstreams left it out: a bare name is then only ever own
	}
}

// upstream returns the upstream of that name, or nil.
func (c *config) upstream(name string) *upstreamConfig {
	for i := range c.upstreams {
		if c.upstreams[i].name == name {
			return &c.upstreams[i]
		}
	}
	return nil
}

// doubts returns what is worth a warning and does not stop a start.
func (c *config) doubts() (warnings []string) {
	var fs unix.Statfs_t
	dir, err := existing(c.cache.dir)
	if err != nil || unix.Statfs(dir, &fs) != nil {
		return nil
	}
	total := int64(fs.Blocks) * int64(fs.Bsize)
	if want := c.cache.size.of(total); want > total {
		warnings = append(warnings, fmt.Sprintf(
			"cache.size is %s and the disk of %s has only %s: the cache takes what cache.keep_free leaves; write cache.size: 80%% to follow the disk",
			c.cache.size, c.cache.dir, bytesText(total)))
	}
	return warnings
}

// configFile returns the file that a command reads: the flag's, or that of the
// environment, or "" for none.
func configFile(flag string) string {
	if flag != "" {
		return flag
	}
	return os.Getenv(envConfig)
}
