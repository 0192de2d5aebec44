package report

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
	"time"

	"hostlocal/loadtest"
)

// A series of points in time, of one contender: seconds and a value.
type track struct {
	name   string
	index  int
	points []point
}

// trackPoints bounds the points of a line; of those that fall together the
// greatest is drawn, because peaks are what a limit is about.
const trackPoints = 240

// timeFigures are what happened over time in each contender's typical round.
func timeFigures(cs []loadtest.Contender) []figure {
	type chart struct {
		title, note string
		kind        kind
		of          func(*loadtest.Measurement) []point
	}
	charts := []chart{
		{"Pulls done", "", count, pullsDone},
		{"Bytes to clients, per second", "Each pull's bytes are spread evenly over its time.", rate, bytesPerSecond},
		{"CPU, in cores", "", number, coresUsed},
		{"Memory (RSS)", "", byteCount, usage(func(u loadtest.Usage) float64 { return float64(u.RSS) })},
		{"Open descriptors", "", count, usage(func(u loadtest.Usage) float64 { return float64(u.Descriptors) })},
		{"Goroutines", "Of contenders that say so.", count, usage(func(u loadtest.Usage) float64 { return float64(u.Goroutines) })},
		{"Disk", "Allocated under the cache's folder.", byteCount, usage(func(u loadtest.Usage) float64 { return float64(u.Disk) })},
	}
	var figures []figure
	for _, ch := range charts {
		var tracks []track
		for i, c := range cs {
			if m := typicalRound(c); m != nil {
				if points := ch.of(m); len(points) > 1 {
					tracks = append(tracks, track{c.Name, i, points})
				}
			}
		}
		if len(tracks) > 0 {
			figures = append(figures, figure{Title: ch.title, Note: ch.note, Narrow: timeline(ch.title, ch.kind, tracks)})
		}
	}
	return figures
}

// peak is the last of the highest points, where a line is named: most of what is
// drawn over time ends at nothing.
func (t track) peak() point {
	best := t.points[0]
	for _, p := range t.points {
		if p.y >= best.y {
			best = p
		}
	}
	return best
}

// topDown orders tracks by their peaks, the highest first, so that its name goes
// above it and the others' below theirs.
func topDown(tracks []track) []track {
	return slices.SortedStableFunc(slices.Values(tracks), func(a, b track) int { return cmp.Compare(b.peak().y, a.peak().y) })
}

func timeline(title string, k kind, tracks []track) template.HTML {
	last, most := 0.0, 0.0
	var said []string
	for _, t := range tracks {
		last, most = max(last, t.points[len(t.points)-1].x), max(most, t.peak().y)
		said = append(said, fmt.Sprintf("%s: up to %s", t.name, format(t.peak().y, k)))
	}
	p := newPlot(narrowWidth, narrowHeight-20, title+" over time", strings.Join(said, "; "), 2)
	p.x = exactScale(last, p.left+axisRoom, p.right)
	p.y = linearScale(most, p.bottom, p.top)
	switch k {
	case byteCount, rate:
		p.y = byteScale(most, p.bottom, p.top, k)
	case count:
		p.y = countScale(most, p.bottom, p.top)
	}
	p.rows(4, func(v float64) string { return tickText(v, k) })
	p.columns(p.x.ticks(4), func(v float64) string { return tickText(v, seconds) })
	for _, t := range tracks {
		points := make([]point, len(t.points))
		for i, at := range t.points {
			points[i] = point{p.x.at(at.x), p.y.at(at.y)}
		}
		p.series(t.index, points)
	}
	// Names last, so that no line runs through one.
	for _, t := range topDown(tracks) {
		peak := t.peak()
		x, y := p.x.at(peak.x), p.y.at(peak.y)
		p.shape(t.index, x, y, 3.5, fmt.Sprintf("%s: %s at %s", t.name, format(peak.y, k), format(peak.x, seconds)))
		if len(tracks) > 1 {
			p.labels.put(x, y, "label t"+seriesClass(t.index), cut(t.name, 16))
		}
	}
	return p.done()
}

// thinTrack keeps the greatest of the points that fall into one slot, and the last.
func thinTrack(points []point) []point {
	points = slices.DeleteFunc(points, func(p point) bool { return !finite(p.x) || !finite(p.y) || p.x < 0 })
	if len(points) <= trackPoints {
		return points
	}
	last := points[len(points)-1]
	kept := make([]point, 0, trackPoints)
	for i := range trackPoints - 1 {
		slot := points[i*len(points)/trackPoints : (i+1)*len(points)/trackPoints]
		kept = append(kept, slices.MaxFunc(slot, func(a, b point) int { return int(math.Copysign(1, a.y-b.y)) }))
	}
	return append(kept, last)
}

func pullsDone(m *loadtest.Measurement) []point {
	var ends []float64
	for _, p := range m.Pulls {
		if p.Failure == "" && !p.Left {
			ends = append(ends, p.End.Seconds())
		}
	}
	slices.Sort(ends)
	points := []point{{0, 0}}
	for i, e := range ends {
		points = append(points, point{e, float64(i)}, point{e, float64(i + 1)})
	}
	return thinTrack(points)
}

// bytesPerSecond spreads each pull over the slots that it took part in.
func bytesPerSecond(m *loadtest.Measurement) []point {
	end := 0.0
	for _, p := range m.Pulls {
		end = max(end, p.End.Seconds())
	}
	if end <= 0 {
		return nil
	}
	const slots = 100
	var sums [slots]float64
	slot := end / slots
	for _, p := range m.Pulls {
		from, to := max(p.Start.Seconds(), 0), p.End.Seconds()
		if p.Bytes <= 0 || to <= from {
			continue
		}
		each := float64(p.Bytes) / (to - from)
		for i := min(int(from/slot), slots-1); i < slots && float64(i)*slot < to; i++ {
			overlap := min(to, float64(i+1)*slot) - max(from, float64(i)*slot)
			sums[i] += each * max(overlap, 0)
		}
	}
	var points []point
	for i, s := range sums {
		points = append(points, point{(float64(i) + .5) * slot, s / slot})
	}
	return points
}

// coresOver is the least time that a slope of the CPU time is taken over: the
// kernel counts it in steps of 10 ms, which over 100 ms would draw nothing but teeth.
const coresOver = 300 * time.Millisecond

// coresUsed is the slope of the CPU time.
func coresUsed(m *loadtest.Measurement) []point {
	if len(m.Usage) == 0 {
		return nil
	}
	from := m.Usage[0]
	over := max(coresOver, (m.Usage[len(m.Usage)-1].At-from.At)/100)
	var points []point
	for _, u := range m.Usage {
		if d := u.At - from.At; d >= over {
			points = append(points, point{(from.At + d/2).Seconds(), max((u.CPU-from.CPU).Seconds()/d.Seconds(), 0)})
			from = u
		}
	}
	return thinTrack(points)
}

func usage(of func(loadtest.Usage) float64) func(*loadtest.Measurement) []point {
	return func(m *loadtest.Measurement) []point {
		var points []point
		some := false
		for _, u := range m.Usage {
			v := of(u)
			some = some || v > 0
			points = append(points, point{u.At.Seconds(), v})
		}
		if !some {
			return nil
		}
		return thinTrack(points)
	}
}
