package manifest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/distribution/reference"
)

// namesIndex is Names made ready for Resolve.
type namesIndex struct {
	hosts      map[string]hostEntry
	own        []ownPattern
	fallback   string // the default upstream, canonical
	configured string // for messages: every name that is known
}

// A hostEntry is what one host name means.
type hostEntry struct {
	name           string // the upstream
	self           bool   // or this registry
	whyNS, whyPath string
}

type ownPattern struct{ pattern, why string }

func (n *Names) compile() {
	x := namesIndex{hosts: map[string]hostEntry{}}
	var known []string
	for _, u := range n.Upstreams {
		name := canonicalHost(u.Name)
		known = append(known, name)
		for _, h := range append([]string{u.Name}, u.Hosts...) {
			x.hosts[canonicalHost(h)] = hostEntry{
				name:    name,
				whyNS:   "?ns= names " + name,
				whyPath: "the path begins with " + name,
			}
		}
	}
	for _, s := range n.Self {
		x.hosts[canonicalHost(s)] = hostEntry{self: true}
		known = append(known, canonicalHost(s)+" (this registry)")
	}
	for _, p := range n.Own {
		x.own = append(x.own, ownPattern{p, "the pattern " + p + " in own claims it"})
	}
	if n.Default != "" {
		x.fallback = canonicalHost(n.Default)
		if h, ok := x.hosts[x.fallback]; ok {
			x.fallback = h.name // Default may be written as one of its hosts
		}
	}
	x.configured = strings.Join(known, ", ")
	if len(known) == 0 {
		x.configured = "none"
	}
	n.index = x
}

// host looks a host up; it allocates only for one that is not in lower case.
func (x *namesIndex) host(s string) (hostEntry, bool) {
	if len(s) > MaxName {
		return hostEntry{}, false
	}
	h, ok := x.hosts[canonicalHost(s)]
	return h, ok
}

// canonicalHost gives a host one spelling: lower case, and without the port that
// https has anyway.
func canonicalHost(s string) string {
	return strings.TrimSuffix(strings.ToLower(s), ":443")
}

// Check reports everything that is wrong with a configuration, joined, each with
// what to change.
func (n *Names) Check() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	owner := map[string]string{}
	claim := func(host, by string) {
		if !validHost(host) {
			add("%s: %.80q is not a host name; write it like registry.example.com:5000, without a scheme or path", by, host)
			return
		}
		c := canonicalHost(host)
		if before, ok := owner[c]; ok && before != by {
			add("%.80q stands both for %s and for %s; remove one", host, before, by)
			return
		}
		owner[c] = by
	}
	for i, u := range n.Upstreams {
		for _, v := range n.Upstreams[:i] {
			if canonicalHost(u.Name) == canonicalHost(v.Name) {
				add("upstream %.80q stands twice; remove one", u.Name)
			}
		}
		for _, h := range append([]string{u.Name}, u.Hosts...) {
			claim(h, "upstream "+u.Name)
		}
	}
	for _, s := range n.Self {
		claim(s, "names (this registry)")
	}
	if by, ok := owner[canonicalHost(n.Default)]; n.Default != "" && (!ok || !strings.HasPrefix(by, "upstream ")) {
		add("default_upstream %.80q is not among the upstreams; add it there, or leave default_upstream empty", n.Default)
	}
	for _, p := range n.Own {
		first, _, _ := strings.Cut(p, "/")
		if _, taken := owner[canonicalHost(first)]; taken {
			add("own: %.80q can claim nothing, names that begin with %s are not bare; remove that part", p, first)
		} else if !validPattern(p) {
			add("own: %.80q is not a pattern of repository names; write it like team/* or team/app", p)
		}
	}
	return errors.Join(errs...)
}

// validHost reports whether s is a host, with or without a port, that can be
// told from a repository's first component and leaves room for a path.
func validHost(s string) bool {
	if len(s) > MaxName/2 || !looksLikeHost(s) {
		return false
	}
	named, err := reference.WithName(s + "/x")
	return err == nil && reference.Domain(named) == s
}

// validPattern reports whether names exist that p matches.
func validPattern(p string) bool {
	return ValidRepository(strings.ReplaceAll(p, "*", "x"))
}
