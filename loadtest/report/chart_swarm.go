package report

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"hostlocal/loadtest"
)

// maxMarks bounds the pulls that all swarms of a page draw together, and with it
// the size of the page: a mark is about 25 bytes, twice.
const maxMarks = 1000

// swarms draw each contender's pulls as one line each, from when it was due until
// it was done, the earliest on top: the area is what the clients waited.
func swarms(cs []loadtest.Contender) (figures []figure) {
	last := latestEnd(cs)
	if last <= 0 {
		return nil
	}
	for i, c := range cs {
		m := typicalRound(c)
		if m == nil || len(m.Pulls) == 0 {
			continue
		}
		pulls, every := thinPulls(m.Pulls, maxMarks/len(cs))
		note := plural(len(m.Pulls), "pull", "pulls")
		if every > 1 {
			note += fmt.Sprintf(", about one in %s drawn", inCount(every))
		}
		if n := leftPulls(m); n > 0 {
			note += fmt.Sprintf(", %s hung up as told (grey)", inCount(n))
		}
		if n := failedPulls(m); n > 0 {
			note += fmt.Sprintf(", %s failed (dashed, with a cross)", inCount(n))
		}
		render := func(w, h float64) template.HTML {
			return swarm(w, min(h, float64(len(pulls))*26+40), i, c.Name, note, pulls, last)
		}
		f := figure{Title: c.Name, Note: note, Narrow: render(narrowWidth, narrowHeight)}
		switch len(cs) {
		case 1:
			f.Wide = render(wideWidth, wideHeight)
		case 2, 4: // two columns
			f.Wide = render(wideWidth/2-15, narrowHeight)
		}
		figures = append(figures, f)
	}
	return figures
}

// latestEnd is the end of the common time axis, in seconds.
func latestEnd(cs []loadtest.Contender) float64 {
	last := 0.0
	for _, c := range cs {
		if m := typicalRound(c); m != nil {
			for _, p := range m.Pulls {
				last = max(last, p.End.Seconds())
			}
		}
	}
	return last
}

// thinPulls orders pulls by when they were due and when they ended, and keeps about
// so many at most: evenly, and beside them those that a picture must not lose, which
// are the last to end and the failed ones, these too evenly if they are too many.
func thinPulls(pulls []loadtest.Pull, most int) (kept []loadtest.Pull, every int) {
	sorted := slices.Clone(pulls)
	slices.SortFunc(sorted, func(a, b loadtest.Pull) int {
		return cmp.Or(cmp.Compare(a.Due.Round(10*time.Millisecond), b.Due.Round(10*time.Millisecond)), cmp.Compare(a.End, b.End))
	})
	most = max(most, 4)
	if len(sorted) <= most {
		return sorted, 1
	}
	last := 0
	var failed []int
	for i, p := range sorted {
		if p.End > sorted[last].End {
			last = i
		}
		if p.Failure != "" {
			failed = append(failed, i)
		}
	}
	keep := map[int]bool{last: true}
	forFailed := min(len(failed), most/3)
	for i := range forFailed {
		keep[failed[i*len(failed)/forFailed]] = true
	}
	others := most - forFailed - 1
	for i := range others {
		keep[i*len(sorted)/others] = true
	}
	for i, p := range sorted {
		if keep[i] {
			kept = append(kept, p)
		}
	}
	return kept, (len(sorted) + others - 1) / others
}

func swarm(w, h float64, index int, name, note string, pulls []loadtest.Pull, last float64) template.HTML {
	p := newPlot(w, h, "Pulls of "+name+" over time", note, 0)
	p.top, p.right = 6, w-2
	p.x = exactScale(last, p.left, p.right)
	for _, t := range p.x.ticks(4) {
		p.line(p.x.at(t), p.top, p.x.at(t), p.bottom, "gridline")
	}
	p.line(p.left, p.bottom, p.right, p.bottom, "axis")
	p.columns(p.x.ticks(4), func(v float64) string { return tickText(v, seconds) })
	step := (p.bottom - p.top - 4) / float64(len(pulls))
	var late, good, bad, left, crosses strings.Builder
	end := 0.0
	for i, pull := range pulls {
		y := p.top + 2 + (float64(i)+.5)*min(step, 26)
		due, start, done := p.x.at(pull.Due.Seconds()), p.x.at(pull.Start.Seconds()), p.x.at(pull.End.Seconds())
		if start > due+.5 {
			late.WriteString("M" + px(due) + " " + px(y) + "H" + px(start))
		}
		into := &good
		if pull.Left {
			into = &left
		}
		if pull.Failure != "" {
			into = &bad
			crosses.WriteString("M" + px(done-2.5) + " " + px(y-2.5) + "l5 5m0-5l-5 5")
		}
		into.WriteString("M" + px(max(due, min(start, done))) + " " + px(y) + "H" + px(max(done, due+.8)))
		end = max(end, pull.End.Seconds())
	}
	width := max(.5, min(.72*step, 7))
	for _, layer := range []struct {
		class string
		d     string
	}{{"late", late.String()}, {"s" + seriesClass(index), good.String()}, {"left", left.String()}, {"bad", bad.String()}} {
		if layer.d != "" {
			p.stroke("swarm "+layer.class, layer.d, width)
		}
	}
	if crosses.Len() > 0 {
		p.path("cross", crosses.String(), "")
	}
	// Where the last client is done is the number that the page begins with.
	x := p.x.at(end)
	text := "last done at " + format(end, seconds).String()
	p.line(x, p.top, x, p.bottom, "rule")
	p.labels.right, p.labels.top = w, 0
	if x+8+textWidth(text) <= w {
		p.text(x+6, p.top+12, "label halo", "start", text)
	} else {
		p.text(x-6, p.bottom-8, "label halo", "end", text)
	}
	return p.done()
}
