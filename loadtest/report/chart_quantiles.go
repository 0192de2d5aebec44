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

// A curve is one contender's distribution: all rounds together, in order.
type curve struct {
	name   string
	index  int
	sorted []float64 // seconds
}

// curves collects a time of each pull that pick accepts.
func curves(cs []loadtest.Contender, pick func(loadtest.Pull) (time.Duration, bool)) []curve {
	var out []curve
	for i, c := range cs {
		one := curve{name: c.Name, index: i}
		for _, m := range c.Rounds {
			for _, p := range m.Pulls {
				if d, ok := pick(p); ok && d >= 0 {
					one.sorted = append(one.sorted, d.Seconds())
				}
			}
		}
		if len(one.sorted) > 0 {
			slices.Sort(one.sorted)
			out = append(out, one)
		}
	}
	return out
}

// at is the value at quantile q, by nearest rank, as one of the measured times.
func (c curve) at(q float64) float64 {
	rank := int(math.Ceil(q*float64(len(c.sorted)) - 1e-9))
	return c.sorted[max(0, min(rank-1, len(c.sorted)-1))]
}

func (c curve) max() float64 { return c.sorted[len(c.sorted)-1] }

// label names a curve where it ends, at its slowest.
func (c curve) label() string { return cut(c.name, 18) + " " + format(c.max(), seconds).String() }

func labelWidth(cs []curve) float64 {
	widest := 0.0
	for _, c := range cs {
		widest = max(widest, textWidth(c.label()))
	}
	return widest
}

// nines is where a quantile stands on the axis: 0.9 at 1, 0.99 at 2, so that the
// tail, which is what a deploy waits for, gets as much room as the rest.
func nines(q float64) float64 { return -math.Log10(1 - q) }

// curvePoints is how many points a curve has: more than pixels that tell.
const curvePoints = 160

// quantileFigure draws distributions toward their tail.
func quantileFigure(title, note string, cs []curve) (figure, bool) {
	if len(cs) == 0 {
		return figure{}, false
	}
	most, least, pulls := 0.0, math.Inf(1), 1
	for _, c := range cs {
		most = max(most, c.max())
		least = min(least, c.at(0.02))
		pulls = max(pulls, len(c.sorted))
	}
	if least <= 0 {
		least = most / 1000
	}
	var said []string
	for _, c := range cs {
		said = append(said, fmt.Sprintf("%s: median %s, p99 %s, slowest %s", c.name, format(c.at(.5), seconds), format(c.at(.99), seconds), format(c.max(), seconds)))
	}
	slices.SortStableFunc(cs, func(a, b curve) int { return cmp.Compare(b.max(), a.max()) })
	return draw(title, note, func(w, h float64) template.HTML {
		p := newPlot(w, h, title, strings.Join(said, "; "), 0)
		p.right = w - min(0.42*w, 16+labelWidth(cs))
		p.x = scale{min: 0, max: max(1, math.Log10(float64(pulls))), from: p.left + axisRoom, to: p.right}
		p.y = fitScale(least, most, p.bottom, p.top)
		p.rows(5, func(v float64) string { return tickText(v, seconds) })
		var ticks []float64
		for _, q := range []float64{0, .5, .9, .99, .999, .9999, .99999} {
			if nines(q) <= p.x.max+1e-9 {
				ticks = append(ticks, nines(q))
			}
		}
		p.columns(ticks, func(v float64) string {
			q := 1 - math.Pow(10, -v)
			if v == 0 {
				return "fastest"
			}
			return "p" + trimZeros(fmt.Sprintf("%.4f", 100*q))
		})
		ends := make([]point, len(cs))
		for i, c := range cs {
			ends[i] = p.curve(c)
		}
		for i, c := range cs { // names last, when all lines are there to be avoided
			p.labels.put(ends[i].x, ends[i].y, "label t"+seriesClass(c.index), c.label())
		}
		return p.done()
	}), true
}

// curve draws one distribution up to its own last pull, and says where that is.
func (p *plot) curve(c curve) point {
	end := math.Log10(float64(len(c.sorted)))
	var points []point
	for i := range curvePoints {
		u := end * float64(i) / (curvePoints - 1)
		v := c.at(1 - math.Pow(10, -u))
		if i == curvePoints-1 {
			v = c.max()
		}
		points = append(points, point{p.x.at(u), p.y.at(v)})
	}
	last := points[len(points)-1]
	p.series(c.index, points)
	p.shape(c.index, last.x, last.y, 4.5, c.name+": slowest "+format(c.max(), seconds).String())
	return last
}

// pullWait takes pulls that went well: a failed one waited for nothing, and one that
// hung up on purpose did not wait.
func pullWait(p loadtest.Pull) (time.Duration, bool) {
	return p.Wait(), p.Failure == "" && !p.Left
}

func pullFirstByte(p loadtest.Pull) (time.Duration, bool) { return p.FirstByte, p.FirstByte > 0 }
