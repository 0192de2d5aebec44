package report

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

	"hostlocal/loadtest"
)

// ladderTracks are a column's values over the steps, by contender in order of
// appearance.
func ladderTracks(l loadtest.Ladder, col column) []track {
	var tracks []track
	for i := range l.Steps {
		s := &l.Steps[i]
		at := slices.IndexFunc(tracks, func(t track) bool { return t.name == s.Contender })
		if at < 0 {
			at = len(tracks)
			tracks = append(tracks, track{name: s.Contender, index: at})
		}
		if v := col.of(&s.Measurement); finite(v) && s.Value > 0 {
			tracks[at].points = append(tracks[at].points, point{float64(s.Value), v})
		}
	}
	tracks = slices.DeleteFunc(tracks, func(t track) bool { return len(t.points) == 0 })
	for _, t := range tracks {
		slices.SortStableFunc(t.points, func(a, b point) int { return int(a.x - b.x) })
	}
	return tracks[:min(len(tracks), maxDrawn)]
}

// ladderFigures draw how wait, memory and CPU grow with the quantity.
func ladderFigures(l loadtest.Ladder) []figure {
	var figures []figure
	for _, name := range []string{"wall", "p99(pull)", "rss_peak", "cpu_per_gib", "amplification", "descriptors_peak"} {
		col := mustColumn(name)
		if tracks := ladderTracks(l, col); len(tracks) > 0 {
			title := map[string]string{
				"wall": "Until the last client is done", "p99(pull)": "p99 of a pull", "rss_peak": "Peak memory (RSS)", "cpu_per_gib": "CPU-s per GiB received",
				"amplification": "Upstream bytes for each byte wanted", "descriptors_peak": "Open descriptors, peak",
			}[name]
			figures = append(figures, figure{Title: title, Narrow: ladder(title, l, col.kind, tracks)})
		}
	}
	return figures
}

func ladder(title string, l loadtest.Ladder, k kind, tracks []track) template.HTML {
	least, most := math.Inf(1), 0.0
	first, last := math.Inf(1), 0.0
	var values []float64
	var said []string
	for _, t := range tracks {
		for _, p := range t.points {
			first, last = min(first, p.x), max(last, p.x)
			if p.y > 0 {
				least = min(least, p.y)
			}
			most = max(most, p.y)
			values = append(values, p.x)
		}
		end := t.points[len(t.points)-1]
		said = append(said, fmt.Sprintf("%s: %s at %s", t.name, format(end.y, k), stepName(l, int64(end.x))))
	}
	p := newPlot(narrowWidth, narrowHeight, title, strings.Join(said, "; "), 2)
	p.right = narrowWidth - 16
	p.x = scale{min: first, max: max(last, first*1.01), log: true, from: p.left + axisRoom, to: p.right}
	switch {
	case least > 0 && most/least > tooWide:
		p.y = logScale(least, most, p.bottom, p.top)
		p.y.binary = k == byteCount
	case k == byteCount:
		p.y = byteScale(most, p.bottom, p.top, k)
	case k == count:
		p.y = countScale(most, p.bottom, p.top)
	default:
		p.y = linearScale(most, p.bottom, p.top)
	}
	p.rows(4, func(v float64) string { return tickText(v, k) })
	slices.Sort(values)
	p.columns(slices.Compact(values), func(v float64) string { return stepShort(l, int64(v)) })
	for _, t := range tracks {
		var points []point
		for _, at := range t.points {
			points = append(points, point{p.x.at(at.x), p.y.at(at.y)})
		}
		p.series(t.index, points)
		for i, at := range points {
			p.shape(t.index, at.x, at.y, 3.5, fmt.Sprintf("%s, %s: %s", t.name, stepName(l, int64(t.points[i].x)), format(t.points[i].y, k)))
		}
	}
	for _, t := range topDown(tracks) {
		end := t.points[len(t.points)-1]
		text := format(end.y, k).String()
		if len(tracks) > 1 {
			text = cut(t.name, 14) + " " + text
		}
		p.labels.put(p.x.at(end.x), p.y.at(end.y), "label t"+seriesClass(t.index), text)
	}
	return p.done()
}

// stepName is a step in words: "1,000 clients", "24.0 MiB".
func stepName(l loadtest.Ladder, v int64) string {
	if ofBytes(l) {
		return inBytes(v)
	}
	of := cut(l.Of, 24)
	if v == 1 {
		of = strings.TrimSuffix(of, "s")
	}
	return inCount(int(v)) + " " + of
}

// stepShort is a step on an axis.
func stepShort(l loadtest.Ladder, v int64) string {
	if ofBytes(l) {
		return tickText(float64(v), byteCount)
	}
	return inCount(int(v))
}

func ofBytes(l loadtest.Ladder) bool { return strings.Contains(l.Of, "size") }
