package registryd

import (
	"testing"
	"time"

	"hostlocal/manifest"
)

func TestTheFirstRuleThatMatchesCounts(t *testing.T) {
	rules := policies{
		{"docker.io", "library/app:v*-rc*", Policy{Mode: Always}},
		{"docker.io", "sha-*", Policy{Mode: Immutable}},
		{"docker.io", "vendor/*", Policy{Mode: Offline}},
		{"docker.io", "*", Policy{TTL, time.Hour}},
		{"", "release-*", Policy{Mode: Immutable}},
	}
	for _, c := range []struct {
		host, path, tag string
		want            Policy
	}{
		{"docker.io", "library/app", "v1-rc2", Policy{Mode: Always}},
		{"docker.io", "library/app", "v1", Policy{TTL, time.Hour}},
		{"docker.io", "team/app", "sha-123", Policy{Mode: Immutable}},
		{"docker.io", "vendor/deep/app", "v1", Policy{Mode: Offline}},
		{"docker.io", "vendors/app", "v1", Policy{TTL, time.Hour}},
		{"ghcr.io", "vendor/app", "v1", DefaultPolicy},
		{"", "team/app", "release-1", Policy{Mode: Immutable}},
		{"", "team/app", "v1", Policy{Mode: Always}},
	} {
		repo := Repository{Name: manifest.Name{Host: c.host, Path: c.path}}
		if got := rules.of(repo, c.tag); got != c.want {
			t.Errorf("%s:%s: %v, want %v", repo, c.tag, got, c.want)
		}
	}
}

func TestFreshness(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		p         Policy
		confirmed time.Time
		want      bool
	}{
		{Policy{}, now, false},
		{Policy{Mode: Always}, now, false},
		{Policy{TTL, time.Minute}, now.Add(-59 * time.Second), true},
		{Policy{TTL, time.Minute}, now.Add(-time.Minute), false},
		{Policy{TTL, time.Minute}, time.Time{}, false},
		{Policy{Mode: Immutable}, time.Time{}, true},
		{Policy{Mode: Offline}, time.Time{}, true},
	} {
		if got := c.p.fresh(c.confirmed, now); got != c.want {
			t.Errorf("%v, confirmed %v: fresh is %v", c.p, c.confirmed, got)
		}
	}
}
