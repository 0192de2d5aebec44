package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"

	"hostlocal/loadtest"
)

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
		Failures:    failures(r),
		Facts:       facts(r),
		YAML:        scenarioText(r.Scenario),
		Version:     cut(r.Version, 80),
	}
	if !r.Started.IsZero() {
		p.Started = r.Started.UTC().Format("2 January 2006, 15:04 UTC")
	}
	for i, c := range cs {
		p.Contenders = append(p.Contenders, contenderFactsOf(i, c))
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
		p.TimesNote = fmt.Sprintf("Of the %s, the one in the middle by its wall time", plural(n, "round", "rounds"))
		if n%2 == 0 {
			p.TimesNote += ", the slower of two"
		}
		p.TimesNote += "."
	}
}

func (p *page) addLadder(l loadtest.Ladder) {
	p.Ladder = grid{ladderFigures(l)}
	p.LadderTable = ladderTable(l)
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
