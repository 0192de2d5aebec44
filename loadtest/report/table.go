package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"hostlocal/loadtest"
)

// A table is quantities by contender, or for a ladder by step.
type table struct {
	Heads  []head
	Groups []group
	Wide   bool // more columns than a phone shows
}

type head struct {
	Name, Class string
}

type group struct {
	Title string
	Rows  []row
}

type row struct {
	Title, Column string
	Cells         []cell
}

// A cell is a number in three parts, so that points stand under each other, and
// what is to be said beside it.
type cell struct {
	Whole, Fraction, Unit string
	Note                  string // "12.8× (12.1 to 13.5)" or "± 4 %"
	Title                 string // the rounds
	Text                  string // instead of a number
}

// text is the number of a cell as the terminal writes it.
func (c cell) text() string {
	return strings.TrimSpace(c.Whole + c.Fraction + " " + c.Unit)
}

func cellOf(q quantity) cell {
	whole, fraction, point := strings.Cut(q.Number, ".")
	if point {
		fraction = "." + fraction
	}
	return cell{Whole: whole, Fraction: fraction, Unit: q.Unit}
}

// compareTable has a column for each contender and a row for whatever was measured.
func compareTable(cs []loadtest.Contender) table {
	t := table{Wide: len(cs) > 1}
	for i, c := range cs {
		t.Heads = append(t.Heads, head{cut(c.Name, 40), "t" + seriesClass(i)})
	}
	cols := slices.Clone(columns)
	at := slices.IndexFunc(cols, func(c column) bool { return c.name == "upstream_bytes" })
	var sources []column
	for _, s := range sourcesOf(cs) {
		sources = append(sources, sourceColumn(s))
	}
	for _, col := range slices.Insert(cols, at, sources...) {
		r, ok := compareRow(cs, col)
		if !ok {
			continue
		}
		if n := len(t.Groups); n == 0 || t.Groups[n-1].Title != col.group {
			t.Groups = append(t.Groups, group{Title: col.group})
		}
		last := &t.Groups[len(t.Groups)-1]
		last.Rows = append(last.Rows, r)
	}
	return t
}

// compareRow is false if no contender has the quantity.
func compareRow(cs []loadtest.Contender, col column) (row, bool) {
	spreads := make([]spread, len(cs))
	some := false
	for i, c := range cs {
		spreads[i] = overRounds(c, col)
		some = some || spreads[i].rounds > 0
	}
	unit := commonUnit(spreads, col.kind)
	r := row{Title: col.title, Column: col.name}
	for i, c := range cs {
		one := cellOf(cellQuantity(spreads[i].median, col, unit))
		if spreads[i].rounds > 1 {
			one.Title = roundsText(c, col)
		}
		one.Note = cellNote(cs[0], c, col, spreads[i], i == 0)
		r.Cells = append(r.Cells, one)
	}
	return r, some
}

// cellQuantity keeps two decimals for ratios, for the difference between 1.00 and
// 1.01 is what people look for.
func cellQuantity(v float64, col column, unit int) quantity {
	if col.kind == number {
		return quantity{twoDecimals(v), ""}
	}
	return formatIn(v, col.kind, unit)
}

// commonUnit is one unit for a row, if its numbers are near enough to share one.
func commonUnit(spreads []spread, k kind) int {
	least, most := math.Inf(1), 0.0
	for _, s := range spreads {
		if finite(s.median) && s.median != 0 {
			least, most = min(least, math.Abs(s.median)), max(most, math.Abs(s.median))
		}
	}
	if most == 0 {
		return unitOf(0, k)
	}
	return unitOf(math.Sqrt(least)*math.Sqrt(most), k)
}

// cellNote sets the others against the first, and the first against itself.
func cellNote(base, c loadtest.Contender, col column, s spread, first bool) string {
	if first && col.kind != share {
		return noiseText(s)
	}
	ratio := ratioTo(base, c, col)
	switch {
	case first || ratio.rounds == 0 || col.kind == share || col.kind == count && col.name == "pulls":
		return ""
	case ratio.low == 1 && ratio.high == 1:
		return ""
	case ratio.rounds == 1 || ratio.low == ratio.high:
		return times(ratio.median)
	case ratio.aroundOne():
		return fmt.Sprintf("≈ %s (%s to %s)", times(ratio.median), twoDecimals(ratio.low), twoDecimals(ratio.high))
	}
	return fmt.Sprintf("%s (%s to %s)", times(ratio.median), twoDecimals(ratio.low), twoDecimals(ratio.high))
}

// noiseText is half the noise in per cent, without digits that mean nothing.
func noiseText(s spread) string {
	half := 100 * s.noise() / 2
	switch {
	case !finite(half) || half < 0.05:
		return ""
	case half < 1:
		return fmt.Sprintf("± %.1f\u00a0%%", half)
	}
	return fmt.Sprintf("± %.0f\u00a0%%", half)
}

func roundsText(c loadtest.Contender, col column) string {
	var said []string
	for i := range min(len(c.Rounds), 12) {
		said = append(said, valueText(col.of(&c.Rounds[i]), col))
	}
	if len(c.Rounds) > 12 {
		said = append(said, "…")
	}
	return "rounds: " + strings.Join(said, ", ")
}

// ladderColumns are what a ladder's table shows of each step.
var ladderColumns = []string{"wall", "p50(pull)", "p99(pull)", "max(pull)", "amplification", "errors", "rss_peak", "cpu_per_gib", "descriptors_peak"}

// maxSteps bounds a ladder's table; a ladder has five or six steps.
const maxSteps = 60

// ladderTable has a row for each step and a column for each quantity.
func ladderTable(l loadtest.Ladder) table {
	t := table{Wide: true}
	for _, name := range ladderColumns {
		t.Heads = append(t.Heads, head{Name: ladderTitles[name]})
	}
	for i := range l.Steps[:min(len(l.Steps), maxSteps)] {
		s := &l.Steps[i]
		if n := len(t.Groups); n == 0 || t.Groups[n-1].Title != cut(s.Contender, 40) {
			t.Groups = append(t.Groups, group{Title: cut(s.Contender, 40)})
		}
		r := row{Title: stepName(l, s.Value)}
		for _, name := range ladderColumns {
			col := mustColumn(name)
			v := col.of(&s.Measurement)
			r.Cells = append(r.Cells, cellOf(cellQuantity(v, col, unitOf(v, col.kind))))
		}
		last := &t.Groups[len(t.Groups)-1]
		last.Rows = append(last.Rows, r)
	}
	return t
}

var ladderTitles = map[string]string{
	"wall": "last client", "p50(pull)": "p50", "p99(pull)": "p99", "max(pull)": "slowest", "amplification": "amplification",
	"errors": "errors", "rss_peak": "RSS, peak", "cpu_per_gib": "CPU-s/GiB", "descriptors_peak": "descriptors",
}
