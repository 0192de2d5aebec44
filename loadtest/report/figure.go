package report

import (
	"html/template"
)

// A figure is a picture with its caption. Wide is for screens from 760 pixels on;
// without it Narrow serves everywhere, beside others of its size.
type figure struct {
	Title, Note  string
	Wide, Narrow template.HTML
}

// A grid is figures beside each other. Two and four stand in two columns, so that
// no row is left with one.
type grid struct {
	Figures []figure
}

// Class says how many columns there may be.
func (g grid) Class() string {
	switch n := len(g.Figures); {
	case n == 1:
		return "one"
	case n == 2 || n == 4:
		return "grid two"
	}
	return "grid"
}

// sizes of pictures in their own units, which are pixels where they are shown at
// their natural size: a phone shows the narrow ones at 0.9.
const (
	wideWidth    = 1040
	wideHeight   = 380
	narrowWidth  = 340
	narrowHeight = 230
)

// draw makes a figure with both sizes.
func draw(title, note string, f func(width, height float64) template.HTML) figure {
	return figure{title, note, f(wideWidth, wideHeight), f(narrowWidth, 1.3*narrowHeight)}
}

// axisRoom keeps the numbers of a y axis clear of curves that begin at its height.
const axisRoom = 62

// A plot is a canvas with two axes.
type plot struct {
	*canvas
	x, y                     scale
	left, right, top, bottom float64
	labels                   labeller
}

// newPlot leaves room for the numbers of the axes: bottom, and inside at the left,
// above their grid line, so that no width is lost to them on a phone.
func newPlot(width, height float64, title, description string, right float64) *plot {
	p := &plot{canvas: newCanvas(width, height, title, description), left: 2, right: width - right, top: 20, bottom: height - 24}
	p.labels = labeller{canvas: p.canvas, left: p.left, right: width, top: p.top - 10, bottom: p.bottom}
	return p
}

// series draws a contender's line, which labels then avoid.
func (p *plot) series(index int, points []point) {
	p.path("line s"+seriesClass(index), polyline(points), "")
	p.labels.avoid(points)
}

// rows draws the grid of the y axis; its numbers stand on the lines.
func (p *plot) rows(n int, text func(float64) string) {
	for _, t := range p.y.ticks(n) {
		y := p.y.at(t)
		class := "gridline"
		if y >= p.bottom-.5 {
			class = "axis"
		}
		p.line(p.left, y, p.right, y, class)
		if y < p.bottom-.5 || p.y.log {
			s := text(t)
			p.text(p.left, y-4, "tick", "start", s)
			p.labels.taken = append(p.labels.taken, box{p.left, y - 4 - labelHeight, p.left + textWidth(s), y - 2})
		}
	}
	if p.y.log {
		p.line(p.left, p.bottom, p.right, p.bottom, "axis")
	}
}

// columns draws the numbers of the x axis, the first and last within the picture.
func (p *plot) columns(ticks []float64, text func(float64) string) {
	before := -100.0
	for _, t := range ticks {
		x := p.x.at(t)
		s := text(t)
		anchor, from := "middle", x-textWidth(s)/2
		switch {
		case from < p.left:
			anchor, from = "start", x
		case x+textWidth(s)/2 > p.width:
			anchor, from = "end", x-textWidth(s)
		}
		if from < before+6 {
			continue
		}
		before = from + textWidth(s)
		p.line(x, p.bottom, x, p.bottom+4, "axis")
		p.text(x, p.bottom+17, "tick", anchor, s)
	}
}
