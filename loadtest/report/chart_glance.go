package report

import (
	"fmt"
	"html/template"
	"math"
	"strings"

	"hostlocal/loadtest"
)

// glance is the comparison in three pictures: what clients wait, what the upstream
// sends, what it costs. Where one of them has nothing to say (a warm run's upstream
// sends nothing) the next best stands in.
func glance(cs []loadtest.Contender) []figure {
	var figures []figure
	for _, choice := range [][]glanceColumn{
		{{"wall", "Until the last client is done"}},
		{{"amplification", "Upstream bytes for each byte wanted"}, {"p99(pull)", "p99 of a pull"}},
		{{"cpu_per_gib", "CPU-s per GiB received"}, {"rss_peak", "Peak memory (RSS)"}},
	} {
		for _, g := range choice {
			if col := mustColumn(g.name); saysSomething(cs, col) {
				figures = append(figures, figure{Title: g.title, Narrow: bars(g.title, cs, col)})
				break
			}
		}
	}
	return figures
}

type glanceColumn struct{ name, title string }

// saysSomething is whether any contender has more than zero of it.
func saysSomething(cs []loadtest.Contender, col column) bool {
	for _, c := range cs {
		if s := overRounds(c, col); s.rounds > 0 && s.high > 0 {
			return true
		}
	}
	return false
}

// bars draw the median of each contender, and a dot for each of its rounds.
func bars(title string, cs []loadtest.Contender, col column) template.HTML {
	const row = 44
	most := 0.0
	var said []string
	for _, c := range cs {
		s := overRounds(c, col)
		if finite(s.high) {
			most = max(most, s.high)
		}
		said = append(said, c.Name+": "+valueText(s.median, col))
	}
	p := newCanvas(narrowWidth, float64(len(cs))*row+6, title, strings.Join(said, "; "))
	x := exactScale(most, 1, narrowWidth-6)
	for i, c := range cs {
		y := float64(i) * row
		s := overRounds(c, col)
		p.text(0, y+14, "label t"+seriesClass(i), "start", cut(c.Name, 22))
		value := valueText(s.median, col)
		if ratio := ratioTo(cs[0], c, col); i > 0 && ratio.rounds > 0 && col.name != "amplification" {
			value += "  ·  " + times(ratio.median)
		}
		p.text(narrowWidth-2, y+14, "value", "end", value)
		p.rect(1, y+21, narrowWidth-7, 9, "trough", "")
		if !finite(s.median) {
			continue
		}
		p.rect(1, y+21, max(x.at(s.median)-1, 1.5), 9, "f"+seriesClass(i), fmt.Sprintf("%s: median %s", c.Name, valueText(s.median, col)))
		if s.rounds < 2 {
			continue
		}
		for n := range min(len(c.Rounds), 30) {
			if v := col.of(&c.Rounds[n]); finite(v) {
				p.dot(x.at(v), y+25.5, fmt.Sprintf("round %d: %s", n+1, valueText(v, col)))
			}
		}
	}
	return p.done()
}

// valueText is a value of a column by itself.
func valueText(v float64, col column) string {
	if col.kind == number && finite(v) {
		return twoDecimals(v)
	}
	if math.IsNaN(v) {
		return "not measured"
	}
	return format(v, col.kind).String()
}
