package loadtest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"hostlocal/loadtest/nearest"
)

// What a scenario may ask for at the most. A scenario is written by the person who
// runs it; the bounds turn a slip of the finger into a message.
const (
	maxClients = 100_000        // pulls are kept in memory, some 200 bytes each
	maxImages  = 100_000        // as many as there can be pulls
	maxLayers  = 127            // what engines take in one image
	maxLayer   = 64 << 30       // bytes; the largest model layers are below
	maxDaemons = 64             // processes on one host
	maxWaves   = 10_000         //
	maxTime    = 24 * time.Hour // of anything that takes a duration
)

// Profiles are the clients that Clients.Profile may name; several, separated by
// commas, take turns.
func Profiles() []string {
	return []string{"docker-classic", "containerd", "containerd-2.1-ranges", "podman", "lazy"}
}

// RealImages are the images whose layer sizes Images.Like may name.
func RealImages() []string {
	return []string{"alpine", "nginx", "redis", "postgres", "mysql", "mongo", "rabbitmq", "eclipse-temurin", "golang", "python", "node"}
}

var (
	paces   = []string{"burst", "constant", "ramp", "sine", "waves", "trace"}
	buckets = []string{"none", "folder", "minio", "versitygw"}
	faults  = []string{"stall", "down", "cut", "status", "slow"}

	nameForm   = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$`)
	assertForm = regexp.MustCompile(`^[^<>=!]+(<=|>=|==|!=|<|>)[^<>=!]+$`) // package report reads what is in it
)

// Check returns an error that wraps ErrScenario and names everything that is wrong
// with s, or nil. What Parse returned without an error is right.
func (s Scenario) Check() error {
	p := &problems{source: s.Name}
	s.check(p)
	return p.err()
}

func (s Scenario) check(p *problems) {
	if !nameForm.MatchString(s.Name) {
		p.add("name", "%q is not a name; write small letters, digits and -", s.Name)
	}
	within(p, "daemons", s.Daemons, 0, maxDaemons)
	within(p, "cache", s.Cache, 0, maxSize)
	within(p, "timeout", s.Timeout, 0, maxTime)
	s.Images.check(p)
	s.Clients.check(p)
	s.Arrivals.check(p, s.Clients.Count)
	s.Upstream.check(p, "upstream")
	s.Bucket.Line.check(p, "bucket")
	among(p, "bucket.kind", s.Bucket.Kind, buckets)
	for i, f := range s.Faults {
		f.check(p, fmt.Sprintf("faults[%d]", i), s.Bucket)
	}
	for i, a := range s.Assert {
		if !assertForm.MatchString(a) {
			p.add(fmt.Sprintf("assert[%d]", i), "%q is not an assertion; write one such as p99(pull)<=3s", a)
		}
	}
}

func (g Images) check(p *problems) {
	within(p, "images.count", g.Count, 0, maxImages)
	within(p, "images.scale", g.Scale, 0, 100)
	within(p, "images.zipf", g.Zipf, 0, 5)
	within(p, "images.one_shot", g.OneShot, 0, 1)
	within(p, "images.bump", g.Bump, 0, 1)
	ways := 0
	for _, said := range []bool{len(g.Layers) > 0, len(g.Like) > 0, g.Mixed} {
		if said {
			ways++
		}
	}
	if ways != 1 {
		p.add("images", "says its sizes %d times; write one of layers: [24MiB], like: [redis], mixed: true", ways)
	}
	if len(g.Layers) > maxLayers {
		p.add("images.layers", "has %d layers; engines take %d", len(g.Layers), maxLayers)
	}
	for i, l := range g.Layers {
		within(p, fmt.Sprintf("images.layers[%d]", i), l, 1, maxLayer)
	}
	for i, name := range g.Like {
		if name == "" {
			name = "?" // among takes "" for the default, and there is none here
		}
		among(p, fmt.Sprintf("images.like[%d]", i), name, RealImages())
	}
}

func (c Clients) check(p *problems) {
	within(p, "clients.count", c.Count, 1, maxClients)
	within(p, "clients.rate", c.Rate, 0, maxSize)
	within(p, "clients.slow", c.Slow, 0, c.Count)
	within(p, "clients.leave", c.Leave, 0, c.Count)
	within(p, "clients.sample", c.Sample, 0, max(c.Count, 1))
	if c.Slow > 0 && c.Rate == 0 {
		p.add("clients.slow", "says how many are slow, but not how slow; write rate: 64KiB beside it")
	}
	for _, name := range c.profiles() {
		among(p, "clients.profile", name, Profiles())
	}
}

// profiles returns the names of Profile, at least one.
func (c Clients) profiles() []string {
	names := strings.Split(c.Profile, ",")
	for i := range names {
		if names[i] = strings.TrimSpace(names[i]); names[i] == "" {
			names[i] = "containerd"
		}
	}
	return names
}

func (a Arrivals) check(p *problems, clients int) {
	among(p, "arrivals.pace", a.Pace, paces)
	within(p, "arrivals.over", a.Over, 0, maxTime)
	within(p, "arrivals.every", a.Every, 0, maxTime)
	within(p, "arrivals.waves", a.Waves, 0, maxWaves)
	switch a.Pace {
	case "constant", "ramp", "sine", "trace":
		if a.Over == 0 {
			p.add("arrivals.over", "is missing: a %s pace needs a time from the first pull to the last; write over: 30s", a.Pace)
		}
	case "waves":
		if a.Waves < 1 || a.Waves > clients {
			p.add("arrivals.waves", "is %d, and must be between 1 and the %d clients", a.Waves, clients)
		}
		if a.Every == 0 {
			p.add("arrivals.every", "is missing: waves need a time from one to the next; write every: 5s")
		}
	}
}

func (l Line) check(p *problems, at string) {
	within(p, at+".latency", l.Latency, 0, time.Minute)
	within(p, at+".connection_rate", l.ConnectionRate, 0, maxSize)
	within(p, at+".total_rate", l.TotalRate, 0, maxSize)
	within(p, at+".pulls", l.Pulls, 0, 1<<31)
	if at == "bucket" && (l.Token || l.CDN || l.Pulls > 0) {
		p.add(at, "token, cdn and pulls are an upstream's; remove them here")
	}
}

func (f Fault) check(p *problems, at string, b Bucket) {
	within(p, at+".at", f.At, 0, maxTime)
	within(p, at+".for", f.For, 0, maxTime)
	among(p, at+".on", f.On, []string{"upstream", "bucket"})
	if f.On == "bucket" && b.Kind != "minio" && b.Kind != "versitygw" {
		p.add(at+".on", "nothing stands before a bucket of kind %q; write bucket: {kind: minio}", b.Kind)
	}
	if f.Kind == "" {
		p.add(at+".kind", "is missing; write one of %s", strings.Join(faults, ", "))
	}
	among(p, at+".kind", f.Kind, faults)
	switch f.Kind {
	case "status":
		within(p, at+".value", f.Value, 400, 599)
	case "cut", "slow":
		within(p, at+".value", f.Value, 1, maxSize)
	case "stall", "down":
		if f.Value != 0 {
			p.add(at+".value", "says nothing for %s; remove it", f.Kind)
		}
	}
}

// within notes a value outside [low, high]. NaN is outside of everything.
func within[N int | int64 | float64 | Size | time.Duration](p *problems, key string, v, low, high N) {
	if !(v >= low && v <= high) {
		p.add(key, "is %v, and must be between %v and %v", v, low, high)
	}
}

// among notes a word that is not one of words; "" means the default.
func among(p *problems, key, word string, words []string) {
	if word == "" || slices.Contains(words, word) {
		return
	}
	set := map[string]bool{}
	for _, w := range words {
		set[w] = true
	}
	if w := nearest.Word(word, slices.Sorted(maps.Keys(set))); w != "" {
		p.add(key, "%q is not known; did you mean %q?", word, w)
		return
	}
	p.add(key, "%q is not known; write one of %s", word, strings.Join(words, ", "))
}
