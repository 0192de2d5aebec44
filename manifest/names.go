package manifest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
)

// ErrRegistry is wrapped by errors about a name that belongs to a registry which
// is not configured.
var ErrRegistry = errors.New("not a configured registry")

// A Name is a repository: Path at the upstream Host, or, with Host "", one of
// the bucket's own.
type Name struct{ Host, Path string }

// String returns the repository's name in the bucket: "ghcr.io/owner/app", or
// "team/app" for the bucket's own.
func (n Name) String() string {
	if n.Host == "" {
		return n.Path
	}
	return n.Host + "/" + n.Path
}

// IsOwn reports whether the repository is the bucket's own.
func (n Name) IsOwn() bool { return n.Host == "" }

// An Upstream is a registry that names may lead to.
type Upstream struct {
	Name  string   // "docker.io": the host in the names of its images
	Hosts []string // what else clients call it: "registry-1.docker.io"
}

// Names is what decides which repository a client means. Fill it, Check it, and
// do not change it after the first Resolve. All hosts may carry a port; case does
// not matter, nor does ":443".
type Names struct {
	Upstreams []Upstream
	Self      []string // what others call this registry: "registry.corp", "localhost:5000"
	Own       []string // patterns of the bucket's own repositories: "team/*"; '*' stands for anything, '/' too
	Default   string   // the upstream of bare names; "" if all of them are the bucket's own

	once  sync.Once
	index namesIndex
}

// A Meaning is what a name turned out to mean.
type Meaning struct {
	Name Name // the repository; of an undecided one, the default upstream's

	// Undecided says that the name is Own if the bucket answers that Own exists,
	// or if this host remembers that it did, else Name.
	Undecided bool
	Own       Name // the bucket's own repository of an undecided name

	Why string // the rule that decided, for people: "?ns= names ghcr.io"
}

// Reasons that do not depend on the configuration; the others are written once,
// by compile, so that Resolve does not allocate.
const (
	whyLibrary   = "a name of one component or under library/ is the default upstream's"
	whyUndecided = "a bare name is the bucket's own if the bucket has it, else the default upstream's"
	whyNoDefault = "a bare name, and there is no default upstream"
)

// The Hub is special in one way: there, and there alone, a name of one
// component is short for one under library/.
const (
	hub     = "docker.io"
	library = "library/"
)

// Resolve says which repository a request means, by the path between /v2/ and
// /manifests/ and by the query parameter ns ("" without one). In this order:
//
//  1. ns is an upstream: the path is a repository there. If the path begins with
//     the same upstream (mirrors configured with a path do that) this is dropped;
//     any other host in it is part of the name there, since what the engine asks
//     for is what ns says. An ns that is a name of this registry says nothing.
//  2. The path begins with an upstream: the rest is a repository there. If it
//     begins with a name of this registry, this is dropped first.
//  3. A pattern in Own claims it: the bucket's own.
//  4. One component, or library/...: the default upstream's.
//  5. Any other: undecided between the bucket's own and the default upstream's.
//
// The error wraps ErrName if the path is malformed, ErrRegistry if ns or the
// path's host is neither an upstream nor this registry.
func (n *Names) Resolve(path, ns string) (Meaning, error) {
	n.once.Do(n.compile)
	if ns != "" {
		h, ok := n.index.host(ns)
		if !ok {
			return Meaning{}, n.unknown(ns)
		}
		if !h.self {
			if first, rest, ok := strings.Cut(path, "/"); ok {
				if p, ok := n.index.host(first); ok && p.name == h.name && !p.self {
					path = rest
				}
			}
			return upstreamMeaning(h.name, path, h.whyNS)
		}
	}
	first, rest, slash := strings.Cut(path, "/")
	if !slash {
		return n.bare(path)
	}
	h, known := n.index.host(first)
	if known && h.self {
		if path = rest; !strings.Contains(path, "/") {
			return n.bare(path)
		}
		first, rest, _ = strings.Cut(path, "/")
		h, known = n.index.host(first)
	}
	switch {
	case known && !h.self:
		return upstreamMeaning(h.name, rest, h.whyPath)
	case known || looksLikeHost(first):
		// A pattern may claim a name whose first component has a dot.
		if m, ok := n.own(path); ok {
			return m, nil
		}
		return Meaning{}, n.unknown(first)
	}
	return n.bare(path)
}

// upstreamMeaning is a name that says itself at which upstream it is.
func upstreamMeaning(host, path, why string) (Meaning, error) {
	if host == hub && path != "" && !strings.Contains(path, "/") {
		path = library + path
	}
	m := Meaning{Name: Name{host, path}, Why: why}
	return m, checkName(m.Name)
}

// bare is a name without a host.
func (n *Names) bare(path string) (Meaning, error) {
	if err := checkName(Name{"", path}); err != nil {
		return Meaning{}, err
	}
	if m, ok := n.own(path); ok {
		return m, nil
	}
	if n.index.fallback == "" {
		return Meaning{Name: Name{"", path}, Why: whyNoDefault}, nil
	}
	if !strings.Contains(path, "/") {
		path = library + path
		if m, ok := n.own(path); ok {
			return m, nil
		}
	}
	m := Meaning{Name: Name{n.index.fallback, path}, Why: whyLibrary}
	if !strings.HasPrefix(path, library) {
		m.Undecided, m.Own, m.Why = true, Name{"", path}, whyUndecided
	}
	return m, checkName(m.Name)
}

// own applies the patterns of the bucket's own repositories.
func (n *Names) own(path string) (Meaning, bool) {
	for i := range n.index.own {
		if p := &n.index.own[i]; MatchPattern(p.pattern, path) && ValidRepository(path) {
			return Meaning{Name: Name{"", path}, Why: p.why}, true
		}
	}
	return Meaning{}, false
}

// MayOwn reports whether a pattern in Own may claim repositories whose first
// component is host, although that looks like one, with a dot or a port. Otherwise all
// that lies there is, or was, an upstream's.
func (n *Names) MayOwn(host string) bool {
	n.once.Do(n.compile)
	if _, known := n.index.host(host); known {
		return false
	}
	for i := range n.index.own {
		start, _, wild := strings.Cut(n.index.own[i].pattern, "*")
		if strings.HasPrefix(start, host+"/") || wild && strings.HasPrefix(host+"/", start) {
			return true
		}
	}
	return false
}

// checkName checks the grammar and the length of the whole.
func checkName(n Name) error {
	if !ValidRepository(n.Path) {
		return fmt.Errorf("%w: %.80q; lower case letters and digits, with '.', '_', '-' between them and '/' between components", ErrName, n.Path)
	}
	if l := len(n.Host) + 1 + len(n.Path); n.Host != "" && l > MaxName {
		return fmt.Errorf("%w: %.80q has %d bytes with its host, more than %d", ErrName, n.Path, l, MaxName)
	}
	return nil
}

// looksLikeHost tells a host from a repository's first component as
// docker does.
func looksLikeHost(s string) bool {
	return s == "localhost" || strings.ContainsAny(s, ".:") || strings.ToLower(s) != s
}

// unknown is the error for a host that nothing in the configuration names.
func (n *Names) unknown(host string) error {
	return fmt.Errorf("%w: %.80q; configured are %s", ErrRegistry, host, n.index.configured)
}
