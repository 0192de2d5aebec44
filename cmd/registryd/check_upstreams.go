package main

import (
	"net/url"
	"os"
	"strings"
)

// checkUpstreams checks each upstream by itself, and then what the names mean
// together: that no two upstreams claim one host, and that the default one exists.
func (c *config) checkUpstreams(p *problems) {
	for i := range c.upstreams {
		c.upstreams[i].check(p)
	}
	err := c.meanings().Check()
	if err == nil {
		return
	}
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, err := range all {
		text := err.Error()
		key := "upstreams"
		for _, k := range []string{"own", "names", "default_upstream"} {
			if strings.HasPrefix(text, k) {
				key = k
			}
		}
		p.add(c.origin[key], "%s", text)
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
		if strings.ContainsFunc(t.match, notInPattern) {
			bad("tags", quoted(t.match, "is not a pattern; * stands for any letters and ? for one"))
		}
	}
}

// notInPattern reports a letter that no repository and no tag has, and that stands
// for no others: a pattern with one matches nothing, which nobody means.
func notInPattern(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("*?._-:/", r)
}
