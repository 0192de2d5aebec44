package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strconv"
	"strings"

	"hostlocal/loadtest"
)

// maxVerdicts bounds what a page says of assertions; a ladder has one a step.
const maxVerdicts = 100

// maxDrawn bounds the contenders of a page: more are not told apart by anybody.
const maxDrawn = 8

//go:embed page.html
var pageSource string

//go:embed page.css
var pageStyle string

var pageTemplate = template.Must(template.New("page").Parse(pageSource))

// A page is what page.html shows. Strings in it are as they came, and escaped there.
type page struct {
	Title       string
	Style       template.CSS
	Started     string
	Scenario    string
	Description string
	Lead        string
	Others      []string
	Warnings    []string
	Verdicts    []verdictLine
	Glance      grid
	Table       table
	TableNotes  []string
	Ladder      grid
	LadderTable table
	Waits       []figure
	Swarms      grid
	SwarmNote   string
	Requests    table
	Sources     []figure
	Times       grid
	TimesNote   string
	Failures    []failureGroup
	Facts       []fact
	YAML        string
	Contenders  []contenderFacts
	Version     string
}

type contenderFacts struct {
	Name, Class, Version, Rounds string
	Settings, Profiles           []string
}

type verdictLine struct {
	Assertion, Contender, Value string
	OK                          bool
}

// WriteHTML writes the report as one file that needs no other: no script, no font,
// no picture from anywhere; the page forbids itself to load any. Whatever the
// report holds, the file stays under 1 MiB: what is thinned is said where it is drawn.
func WriteHTML(w io.Writer, r loadtest.Report) error {
	if err := pageTemplate.Execute(w, pageOf(r)); err != nil {
		return fmt.Errorf("writing the report as HTML: %w", err)
	}
	return nil
}

func pageOf(r loadtest.Report) page {
	all := r.Contenders
	r.Contenders = all[:min(len(all), maxDrawn)]
	cs := r.Contenders
	said := headline(r)
	p := page{
		Title:       "Pull storm: " + cut(r.Scenario.Name, 80),
		Style:       template.CSS(pageStyle),
		Scenario:    cut(r.Scenario.Name, 80),
		Description: cut(r.Scenario.Description, 1000),
		Lead:        said[0],
		Others:      said[1:],
		Warnings:    warnings(r, len(all)),
		Verdicts:    verdictLines(r.Verdicts),
		Facts:       facts(r),
		YAML:        scenarioText(r.Scenario),
		Version:     cut(r.Version, 80),
	}
	if !r.Started.IsZero() {
		p.Started = r.Started.UTC().Format("2 January 2006, 15:04 UTC")
	}
	for i, c := range cs {
		p.Contenders = append(p.Contenders, contenderFactsOf(i, c))
		if g, ok := failuresOf(c.Name, i, c.Rounds); ok {
			p.Failures = append(p.Failures, g)
		}
	}
	if mostRounds(cs) > 0 {
		p.addMeasured(cs)
	}
	if r.Ladder != nil && len(r.Ladder.Steps) > 0 {
		p.addLadder(*r.Ladder)
	}
	return p
}

func (p *page) addMeasured(cs []loadtest.Contender) {
	if len(cs) > 1 {
		p.Glance = grid{glance(cs)}
	}
	p.Table = compareTable(cs)
	p.TableNotes = tableNotes(cs)
	p.Waits = waitFigures(cs)
	p.Swarms = grid{swarms(cs)}
	p.SwarmNote = "A line is a pull, from when it was due until it was done; the earliest is on top."
	p.Requests = requestsTable(cs)
	if f, ok := sourcesFigure(cs); ok {
		p.Sources = []figure{f}
	}
	p.Times = grid{timeFigures(cs)}
	if n := mostRounds(cs); n > 1 {
		p.TimesNote = fmt.Sprintf("Of the %s, the one in the middle by its wall time.", plural(n, "round", "rounds"))
	}
}

func (p *page) addLadder(l loadtest.Ladder) {
	p.Ladder = grid{ladderFigures(l)}
	p.LadderTable = ladderTable(l)
	byContender := map[string][]loadtest.Measurement{}
	var names []string
	for _, s := range l.Steps {
		if !slices.Contains(names, s.Contender) {
			names = append(names, s.Contender)
		}
		byContender[s.Contender] = append(byContender[s.Contender], s.Measurement)
	}
	for i, name := range names[:min(len(names), maxDrawn)] {
		if g, ok := failuresOf(name, i, byContender[name]); ok {
			p.Failures = append(p.Failures, g)
		}
	}
}

// waitFigures are the two distributions.
func waitFigures(cs []loadtest.Contender) []figure {
	rounds := ""
	if n := mostRounds(cs); n > 1 {
		rounds = fmt.Sprintf(" All %s together.", plural(n, "round", "rounds"))
	}
	failed := 0
	for _, c := range cs {
		for i := range c.Rounds {
			failed += failedPulls(&c.Rounds[i])
		}
	}
	note := "From when a pull was due until its last byte; each step to the right is ten times rarer." + rounds
	if failed > 0 {
		note += fmt.Sprintf(" %s are not in it.", plural(failed, "failed pull", "failed pulls"))
	}
	var figures []figure
	if f, ok := quantileFigure("How long a pull takes", note, curves(cs, pullWait)); ok {
		figures = append(figures, f)
	}
	if f, ok := quantileFigure("Until the first byte of the first layer", "From when its request was sent."+rounds, curves(cs, pullFirstByte)); ok {
		figures = append(figures, f)
	}
	return figures
}

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
		var held []string
		for _, m := range c.Rounds {
			if m.HeldBack != "" && !slices.Contains(held, m.HeldBack) {
				held = append(held, m.HeldBack)
			}
		}
		if len(held) > 0 {
			ws = append(ws, fmt.Sprintf("The tool itself held the load back against %s: %s. What is below says less about %[1]s than about this machine.", cut(c.Name, 40), cut(strings.Join(held, "; "), 400)))
		}
	}
	if r.Ladder != nil {
		for _, s := range r.Ladder.Steps {
			if s.Measurement.HeldBack != "" && len(ws) < 12 {
				ws = append(ws, fmt.Sprintf("The tool itself held the load back against %s at %s: %s.", cut(s.Contender, 40), stepName(*r.Ladder, s.Value), cut(s.Measurement.HeldBack, 400)))
			}
		}
	}
	if contenders > maxDrawn {
		ws = append(ws, fmt.Sprintf("There are %d contenders; this page shows the first %d, the JSON has all.", contenders, maxDrawn))
	}
	return ws
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
		return format(v.Value, bytes).String()
	case err == nil && a.left.dimension == dimensionOf(rate):
		return format(v.Value, rate).String()
	}
	return trimZeros(grouped(strconv.FormatFloat(v.Value, 'f', max(0, 3-len(strconv.Itoa(int(v.Value)))+1), 64)))
}

func contenderFactsOf(i int, c loadtest.Contender) contenderFacts {
	f := contenderFacts{Name: cut(c.Name, 40), Class: "t" + seriesClass(i), Version: cut(c.Version, 200), Rounds: plural(len(c.Rounds), "round", "rounds")}
	for _, s := range c.Settings[:min(len(c.Settings), 20)] {
		f.Settings = append(f.Settings, cut(s, 200))
	}
	for _, m := range c.Rounds {
		for _, p := range m.Profiles[:min(len(m.Profiles), 10)] {
			f.Profiles = append(f.Profiles, cut(p, 200))
		}
	}
	f.Profiles = f.Profiles[:min(len(f.Profiles), 20)]
	return f
}
