package registryd

import (
	"strings"
	"time"

	"hostlocal/manifest"
)

// A Mode says when a tag that is known is asked for again.
type Mode string

// The modes of the configuration.
const (
	Always    Mode = "always"    // at each request, while its source answers
	TTL       Mode = "ttl"       // when it was not confirmed for the policy's TTL
	Immutable Mode = "immutable" // never: the tag never moves
	Offline   Mode = "offline"   // never, nor when it is not known: this upstream's tags are asked of the bucket only
)

// A Policy is how fresh a tag has to be. The zero Policy is Always.
type Policy struct {
	Mode Mode
	TTL  time.Duration
}

// DefaultPolicy is that of an upstream's tags of which no rule speaks.
var DefaultPolicy = Policy{Mode: TTL, TTL: time.Minute}

// A TagRule gives the tags of an upstream that match a pattern their policy.
type TagRule struct {
	Upstream string // the upstream's name; empty for own repositories
	// Match is a pattern for a tag ("v*"), a repository ("library/*") or both
	// ("library/app:v*"), as the upstream knows them; '*' stands for anything,
	// '/' too, and '?' for one byte. Empty is "*".
	Match  string
	Policy Policy
}

// String returns the policy as the configuration has it: "ttl 1m0s".
func (p Policy) String() string {
	switch p.Mode {
	case "":
		return string(Always)
	case TTL:
		return string(TTL) + " " + p.TTL.String()
	}
	return string(p.Mode)
}

// ttl returns for how long a confirmation counts; forever is negative.
func (p Policy) ttl() time.Duration {
	switch p.Mode {
	case TTL:
		return p.TTL
	case Immutable, Offline:
		return -1
	}
	return 0
}

// fresh reports whether a tag confirmed at the time given need not be asked for.
func (p Policy) fresh(confirmed, now time.Time) bool {
	if t := p.ttl(); t >= 0 {
		return !confirmed.IsZero() && now.Sub(confirmed) < t
	}
	return true
}

// match reports whether the rule speaks of the tag.
func (r TagRule) match(repo Repository, tag string) bool {
	if r.Upstream != repo.Name.Host {
		return false
	}
	if r.Match == "" || r.Match == "*" {
		return true
	}
	if strings.Contains(r.Match, ":") {
		return manifest.MatchPattern(r.Match, repo.Name.Path+":"+tag)
	}
	return manifest.MatchPattern(r.Match, tag) || manifest.MatchPattern(r.Match, repo.Name.Path)
}

// policies finds the policy of a tag.
type policies []TagRule

func (ps policies) of(repo Repository, tag string) Policy {
	for _, r := range ps {
		if r.match(repo, tag) {
			return r.Policy
		}
	}
	if repo.Name.IsOwn() {
		return Policy{Mode: Always}
	}
	return DefaultPolicy
}

// PolicyOf returns the policy that rules give to a tag of the repository: the first
// that matches counts.
func PolicyOf(rules []TagRule, n manifest.Name, tag string) Policy {
	return policies(rules).of(Repository{Name: n}, tag)
}

// alwaysBackoff is the back-off of tags that are asked for at each request. While
// their source fails they would else cost each request the whole bound; a second is
// what a tag with the shortest sensible TTL may be old, and where the source is well
// there is no back-off at all.
const alwaysBackoff = time.Second

// backoff returns for how long a source that failed is not asked again about a tag
// that is known.
func (p Policy) backoff() time.Duration {
	switch t := p.ttl(); {
	case t < 0:
		return maxBackoff
	case t < alwaysBackoff:
		return alwaysBackoff
	default:
		return min(t, maxBackoff)
	}
}

// refusalTTL returns for how long a refusal counts at most.
func (p Policy) refusalTTL() time.Duration {
	if t := p.ttl(); t >= 0 {
		return min(t, maxRefusal)
	}
	return maxRefusal
}
