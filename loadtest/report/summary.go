package report

import (
	"fmt"
	"io"
	"strings"

	"hostlocal/loadtest"
)

// summaryColumns are the rows of the terminal's comparison: what people decide by.
// The page has all.
var summaryColumns = []struct{ name, title string }{
	{"wall", "last client done"}, {"p50(pull)", "pull p50"}, {"p90(pull)", "     p90"}, {"p99(pull)", "     p99"}, {"p999(pull)", "     p99.9"}, {"max(pull)", "     slowest"},
	{"p50(first_byte)", "first byte p50"}, {"p99(first_byte)", "           p99"},
	{"received", "received"}, {"throughput", "per second"},
	{"upstream_bytes", "upstream sent"}, {"amplification", "amplification"}, {"upstream_requests", "upstream requests"}, {"bucket_requests", "bucket requests"},
	{"cpu_per_gib", "CPU-s/GiB"}, {"rss_peak", "RSS, peak"}, {"goroutines_peak", "goroutines, peak"}, {"descriptors_peak", "descriptors, peak"},
	{"failed", "failed pulls"}, {"errors", "errors"},
}

// Summary writes the report for a terminal of so many columns (0 means 80): the
// headline, a table with the first contender as the measure, errors and verdicts.
// No line is longer than width, and nothing that a contender said can move the
// cursor. colour adds SGR sequences and nothing else.
func Summary(w io.Writer, r loadtest.Report, width int, colour bool) error {
	if width <= 0 {
		width = 80
	}
	s := &screen{width: max(width, 20), colour: colour}
	for i, line := range headline(r) {
		style := plainStyle
		if i == 0 {
			style = bold
		}
		s.wrapped(style, line)
	}
	for _, line := range warnings(r, len(r.Contenders)) {
		s.wrapped(yellow, "careful: "+line)
	}
	if mostRounds(r.Contenders) > 0 {
		s.blank()
		s.comparison(r.Contenders[:min(len(r.Contenders), maxDrawn)])
	}
	if r.Ladder != nil && len(r.Ladder.Steps) > 0 {
		s.blank()
		s.ladder(*r.Ladder)
	}
	s.failures(r)
	if len(r.Verdicts) > 0 {
		s.blank()
	}
	for _, v := range verdictLines(r.Verdicts) {
		mark, style := "held  ", green
		if !v.OK {
			mark, style = "BROKEN", red
		}
		s.line(part{style, mark}, part{plainStyle, "  " + v.Assertion + "  (" + strings.Join(nonEmpty(v.Value, v.Contender), ", ") + ")"})
	}
	_, err := io.WriteString(w, s.b.String())
	return err
}

// comparison is a column for each contender; as many as fit stand beside each
// other, the rest below.
func (s *screen) comparison(cs []loadtest.Contender) {
	const titles, each = 19, 19
	fit := max(1, (s.width-titles)/each)
	for from := 0; from < len(cs); from += fit {
		some := cs[from:min(from+fit, len(cs))]
		if from > 0 {
			s.blank()
		}
		heads := []part{{plainStyle, strings.Repeat(" ", titles)}}
		for _, c := range some {
			heads = append(heads, part{bold, padRight(padLeft(cut(c.Name, each-1), 10), each)})
		}
		s.line(heads...)
		for _, sc := range summaryColumns {
			col := mustColumn(sc.name)
			all, ok := compareRow(cs, col)
			if !ok {
				continue
			}
			parts := []part{{dim, padRight(sc.title, titles)}}
			for i, c := range all.Cells[from : from+len(some)] {
				ratio := ""
				switch {
				case from+i == 0:
					ratio = c.Note
				case c.Note != "": // without the spread, for which there is no room
					ratio, _, _ = strings.Cut(strings.Replace(c.Note, "≈ ", "≈", 1), " ")
				}
				parts = append(parts, part{plainStyle, padLeft(c.text(), 10)}, part{dim, " " + padRight(ratio, each-11)})
			}
			s.line(parts...)
		}
	}
	if len(cs) > 1 {
		s.wrapped(dim, fmt.Sprintf("× against %s; medians of %s; ≈ is within the noise.", cut(cs[0].Name, 40), plural(mostRounds(cs), "round", "rounds")))
	}
}

func (s *screen) ladder(l loadtest.Ladder) {
	const each = 11
	names := []string{"wall", "p50(pull)", "p99(pull)", "amplification", "rss_peak", "cpu_per_gib", "errors"}
	first := 16
	names = names[:max(1, min(len(names), (s.width-first)/each))]
	contender := ""
	for i := range l.Steps[:min(len(l.Steps), maxSteps)] {
		step := &l.Steps[i]
		if i == 0 || step.Contender != contender {
			contender = step.Contender
			heads := []part{{bold, padRight(cut(contender, first-1), first)}}
			for _, n := range names {
				title := ladderTitles[n]
				if n == "amplification" {
					title = "amplif."
				}
				heads = append(heads, part{dim, padLeft(title, each)})
			}
			s.line(heads...)
		}
		parts := []part{{plainStyle, padRight(stepName(l, step.Value), first)}}
		for _, n := range names {
			col := mustColumn(n)
			v := col.of(&step.Measurement)
			parts = append(parts, part{plainStyle, padLeft(cellQuantity(v, col, unitOf(v, col.kind)).String(), each)})
		}
		s.line(parts...)
	}
}

func (s *screen) failures(r loadtest.Report) {
	for _, g := range failures(r) {
		s.blank()
		s.line(part{bold, "errors of " + g.Contender})
		for _, f := range g.Failures {
			s.line(part{red, padLeft(f.Count, 8)}, part{plainStyle, "  " + f.Kind})
			if len(f.Examples) > 0 {
				s.line(part{dim, strings.Repeat(" ", 10) + f.Examples[0]})
			}
		}
	}
}
