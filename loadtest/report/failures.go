package report

import (
	"cmp"
	"slices"

	"hostlocal/loadtest"
)

// bounds on what errors may add to a page: kinds of a contender, examples of a
// kind, and runes of an example.
const (
	maxKinds    = 10
	maxExamples = 3
	maxExample  = 300
)

// A failureGroup is what went wrong with one contender, all rounds together.
type failureGroup struct {
	Contender, Class string
	Failures         []failure
	More             int // kinds that are not shown
}

type failure struct {
	Kind     string
	Count    string
	Examples []string
	count    int
}

// failures are the groups of a report, of its ladder's steps if it is a ladder.
func failures(r loadtest.Report) []failureGroup {
	cs := r.Contenders[:min(len(r.Contenders), maxDrawn)]
	if len(cs) == 0 && r.Ladder != nil {
		for _, s := range r.Ladder.Steps {
			at := slices.IndexFunc(cs, func(c loadtest.Contender) bool { return c.Name == s.Contender })
			if at < 0 {
				at = len(cs)
				cs = append(cs, loadtest.Contender{Name: s.Contender})
			}
			cs[at].Rounds = append(cs[at].Rounds, s.Measurement)
		}
		cs = cs[:min(len(cs), maxDrawn)]
	}
	var groups []failureGroup
	for i, c := range cs {
		if g, ok := failuresOf(c.Name, i, c.Rounds); ok {
			groups = append(groups, g)
		}
	}
	return groups
}

// failuresOf sums kinds over rounds, the most frequent first. Contenders without
// errors have no group.
func failuresOf(name string, index int, ms []loadtest.Measurement) (failureGroup, bool) {
	byKind := map[string]*failure{}
	add := func(kind string, n int, examples []string) {
		f := byKind[kind]
		if f == nil {
			f = &failure{Kind: cut(kind, 120)}
			byKind[kind] = f
		}
		f.count += n
		for _, e := range examples {
			if e = cut(e, maxExample); len(f.Examples) < maxExamples && !slices.Contains(f.Examples, e) {
				f.Examples = append(f.Examples, e)
			}
		}
	}
	for i := range ms {
		for _, f := range ms[i].Failures {
			add(f.Kind, f.Count, f.Examples)
		}
		if len(ms[i].Failures) == 0 { // a report that was put together by hand
			for _, p := range ms[i].Pulls {
				if p.Failure != "" {
					add(p.Failure, 1, nil)
				}
			}
		}
	}
	g := failureGroup{Contender: cut(name, 40), Class: "t" + seriesClass(index)}
	for _, f := range byKind {
		f.Count = inCount(f.count)
		g.Failures = append(g.Failures, *f)
	}
	slices.SortFunc(g.Failures, func(a, b failure) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.Kind, b.Kind))
	})
	if len(g.Failures) > maxKinds {
		g.More = len(g.Failures) - maxKinds
		g.Failures = g.Failures[:maxKinds]
	}
	return g, len(g.Failures) > 0
}
