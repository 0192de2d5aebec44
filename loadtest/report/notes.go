package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"hostlocal/loadtest"
)

// tableNotes say how to read the comparison.
func tableNotes(cs []loadtest.Contender) []string {
	n := mostRounds(cs)
	var notes []string
	if n > 1 {
		notes = append(notes, fmt.Sprintf("Medians of %s; ± is half of what the rounds of the first contender lie apart, which is the noise of this machine.", plural(n, "round", "rounds")))
	}
	switch {
	case len(cs) > 1 && n > 1:
		notes = append(notes, fmt.Sprintf("× is the ratio to %s, taken within each round: the median, and the least and greatest. ≈ where these lie on both sides of one: no difference that this run can show.", cut(cs[0].Name, 40)))
	case len(cs) > 1:
		notes = append(notes, fmt.Sprintf("× is the ratio to %s. There was one round, so how far to trust it is not known.", cut(cs[0].Name, 40)))
	}
	return notes
}

// warnings are what a reader must know before believing a number.
func warnings(r loadtest.Report, contenders int) []string {
	var ws []string
	if r.Ended != "" {
		ws = append(ws, "It ended early: "+cut(r.Ended, 400)+". This is what there was by then.")
	}
	for _, c := range r.Contenders {
		if held := distinct(c.Rounds, func(m loadtest.Measurement) string { return m.HeldBack }); held != "" {
			ws = append(ws, fmt.Sprintf("The tool itself held the load back against %s: %s. What is below says less about %[1]s than about this machine.", cut(c.Name, 40), cut(held, 400)))
		}
		if cold := distinct(c.Rounds, func(m loadtest.Measurement) string { return m.Cold }); cold != "" {
			ws = append(ws, fmt.Sprintf("%s was not warm when it was measured: %s", cut(c.Name, 40), cut(cold, 400)))
		}
	}
	if r.Ladder != nil {
		for _, s := range r.Ladder.Steps {
			if s.Measurement.HeldBack != "" && len(ws) < maxWarnings {
				ws = append(ws, fmt.Sprintf("The tool itself held the load back against %s at %s: %s.", cut(s.Contender, 40), stepName(*r.Ladder, s.Value), cut(s.Measurement.HeldBack, 400)))
			}
			if s.Measurement.Cold != "" && len(ws) < maxWarnings {
				ws = append(ws, fmt.Sprintf("%s was not warm when it was measured at %s: %s", cut(s.Contender, 40), stepName(*r.Ladder, s.Value), cut(s.Measurement.Cold, 400)))
			}
		}
	}
	if contenders > maxDrawn {
		ws = append(ws, fmt.Sprintf("There are %d contenders; this page shows the first %d, the JSON has all.", contenders, maxDrawn))
	}
	return ws
}

// maxWarnings bounds what is said of a ladder's steps.
const maxWarnings = 12

// distinct joins what is to be said of rounds, each thing once.
func distinct(rounds []loadtest.Measurement, of func(loadtest.Measurement) string) string {
	var all []string
	for _, m := range rounds {
		if s := of(m); s != "" && !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return strings.Join(all, "; ")
}

// maxVerdicts bounds what a page says of assertions; a ladder has one a step.
const maxVerdicts = 100

// A verdictLine is a verdict as it is read.
type verdictLine struct {
	Assertion, Contender, Value string
	OK                          bool
}

func verdictLines(vs []loadtest.Verdict) []verdictLine {
	var lines []verdictLine
	for _, v := range vs[:min(len(vs), maxVerdicts)] {
		lines = append(lines, verdictLine{cut(v.Assertion, 200), cut(v.Contender, 60), verdictValue(v), v.OK})
	}
	return lines
}

// verdictValue writes a verdict's value in the unit of its left side.
func verdictValue(v loadtest.Verdict) string {
	a, err := ParseAssertion(v.Assertion)
	switch {
	case !finite(v.Value):
		return "not measured"
	case err == nil && a.left.dimension == time1:
		return format(v.Value, seconds).String()
	case err == nil && a.left.dimension == byte1:
		return format(v.Value, byteCount).String()
	case err == nil && a.left.dimension == dimensionOf(rate):
		return format(v.Value, rate).String()
	}
	return trimZeros(grouped(strconv.FormatFloat(v.Value, 'f', max(0, 3-len(strconv.Itoa(int(v.Value)))+1), 64)))
}
