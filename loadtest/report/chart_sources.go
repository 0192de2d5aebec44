package report

import (
	"cmp"
	"html/template"
	"maps"
	"math"
	"slices"
	"strings"

	"hostlocal/loadtest"
)

// knownSources are what registryd names, nearest first, with the class that
// colours them. Whatever else a contender says comes after.
var knownSources = []string{"disk", "fill", "store", "upstream"}

// noSource is what bytes are listed under that no X-Registryd-Source came with.
const noSource = "unnamed"

func sourceTitle(source string) string {
	if source == "" || source == noSource {
		return "no source named"
	}
	return cut(source, 24)
}

// maxSources bounds what strangers' headers can add to the page.
const maxSources = 6

// sourcesOf is every source that a contender named, the known ones first.
func sourcesOf(cs []loadtest.Contender) []string {
	sums := map[string]int64{}
	for _, c := range cs {
		for _, m := range c.Rounds {
			if onlyUnnamed(m.Sources) {
				continue
			}
			for source, n := range m.Sources {
				sums[cmp.Or(source, noSource)] += n
			}
		}
	}
	order := func(s string) int {
		if i := slices.Index(knownSources, s); i >= 0 {
			return i
		}
		if s == noSource {
			return math.MaxInt
		}
		return len(knownSources)
	}
	maps.DeleteFunc(sums, func(_ string, n int64) bool { return n <= 0 })
	sources := slices.SortedFunc(maps.Keys(sums), func(a, b string) int {
		return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(sums[b], sums[a]), cmp.Compare(a, b))
	})
	return sources[:min(len(sources), maxSources)]
}

// sourcesFigure draws where the received bytes came from, a bar for each contender
// that says so.
func sourcesFigure(cs []loadtest.Contender) (figure, bool) {
	sources := sourcesOf(cs)
	var rows []loadtest.Contender
	for _, c := range cs {
		if m := typicalRound(c); m != nil && m.Received > 0 && len(m.Sources) > 0 && !onlyUnnamed(m.Sources) {
			rows = append(rows, c)
		}
	}
	if len(rows) == 0 || len(sources) == 0 {
		return figure{}, false
	}
	note := "As X-Registryd-Source says, in the round in the middle."
	if len(rows) < len(cs) {
		note += " Other contenders do not say."
	}
	f := figure{Title: "Received bytes by source", Note: note}
	render := func(w float64) template.HTML { return stacked(w, sources, rows) }
	f.Wide, f.Narrow = render(wideWidth), render(narrowWidth)
	return f, true
}

func onlyUnnamed(sources map[string]int64) bool {
	_, unnamed := sources[""]
	return unnamed && len(sources) == 1
}

func stacked(w float64, sources []string, cs []loadtest.Contender) template.HTML {
	perLine := max(1, int(w/170))
	lines := (len(sources) + perLine - 1) / perLine
	row := 48 + 17*float64(lines)
	p := newCanvas(w, row*float64(len(cs)), "Received bytes by source", "")
	for i, c := range cs {
		y := float64(i) * row
		m := typicalRound(c)
		p.text(0, y+13, "label", "start", cut(c.Name, 30))
		p.text(w-2, y+13, "value", "end", inBytes(m.Received)+" received")
		x, n := 0.0, 0
		for k, source := range sources {
			got := m.Sources[source]
			if source == noSource {
				got = m.Sources[""] + m.Sources[noSource]
			}
			if got <= 0 {
				continue
			}
			part := float64(got) / float64(m.Received)
			wide := max(part*w, 1)
			text := sourceTitle(source) + " " + format(part, share).String()
			p.rect(x, y+20, min(wide, w-x), 18, sourceClass(k, source)+" edge", text+", "+inBytes(got))
			x = min(x+wide, w-1)
			lx, ly := float64(n%perLine)*170, y+54+17*float64(n/perLine)
			p.rect(lx, ly-9, 10, 10, sourceClass(k, source), "")
			p.text(lx+16, ly, "tick", "start", text)
			n++
		}
	}
	return p.done()
}

// sourceClass colours by what a source is, so that disk looks alike in all reports.
func sourceClass(k int, source string) string {
	if slices.Contains(knownSources, source) {
		return "src-" + source
	}
	if source == noSource {
		return "src-none"
	}
	return strings.Join([]string{"f", seriesClass(k)}, "")
}
