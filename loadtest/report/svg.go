package report

import (
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// A canvas collects one SVG picture. Text goes in through text and tooltip alone,
// which escape it; all else is numbers and class names of this package. Colours
// are classes, so that the page's style sheet decides between light and dark.
type canvas struct {
	b             strings.Builder
	width, height float64
}

// newCanvas begins a picture that reads itself aloud as title and description.
func newCanvas(width, height float64, title, description string) *canvas {
	c := &canvas{width: width, height: height}
	c.b.WriteString(`<svg role="img" viewBox="0 0 ` + px(width) + " " + px(height) + `" width="` + px(width) + `" height="` + px(height) + `">`)
	c.b.WriteString("<title>" + html.EscapeString(title) + "</title><desc>" + html.EscapeString(description) + "</desc>")
	return c
}

// done ends the picture.
func (c *canvas) done() template.HTML {
	c.b.WriteString("</svg>")
	return template.HTML(c.b.String())
}

// text writes s; anchor is start, middle or end.
func (c *canvas) text(x, y float64, class, anchor, s string) {
	c.b.WriteString(`<text x="` + px(x) + `" y="` + px(y) + `" class="` + class + `"`)
	if anchor != "start" {
		c.b.WriteString(` text-anchor="` + anchor + `"`)
	}
	c.b.WriteString(">" + html.EscapeString(s) + "</text>")
}

func (c *canvas) line(x1, y1, x2, y2 float64, class string) {
	c.path(class, "M"+px(x1)+" "+px(y1)+"L"+px(x2)+" "+px(y2), "")
}

// path draws d; tooltip may be empty.
func (c *canvas) path(class, d, tooltip string) {
	c.mark(`<path class="`+class+`" d="`+d+`"`, "path", tooltip)
}

// stroke draws d with a width that depends on the data.
func (c *canvas) stroke(class, d string, width float64) {
	c.mark(`<path class="`+class+`" stroke-width="`+px(width)+`" d="`+d+`"`, "path", "")
}

func (c *canvas) rect(x, y, w, h float64, class, tooltip string) {
	c.mark(`<rect class="`+class+`" x="`+px(x)+`" y="`+px(y)+`" width="`+px(max(w, 0))+`" height="`+px(max(h, 0))+`"`, "rect", tooltip)
}

func (c *canvas) mark(open, element, tooltip string) {
	c.b.WriteString(open)
	if tooltip == "" {
		c.b.WriteString("/>")
		return
	}
	c.b.WriteString("><title>" + html.EscapeString(tooltip) + "</title></" + element + ">")
}

// shape draws the i-th contender's mark, whose form tells it apart without colour.
func (c *canvas) shape(i int, x, y, r float64, tooltip string) {
	var d string
	move := func(dx, dy float64) string { return px(x+dx*r) + " " + px(y+dy*r) }
	switch i % series {
	case 0: // disc
		d = "M" + move(-1, 0) + "a" + px(r) + " " + px(r) + " 0 1 0 " + px(2*r) + " 0a" + px(r) + " " + px(r) + " 0 1 0 " + px(-2*r) + " 0Z"
	case 1: // square
		d = "M" + move(-.9, -.9) + "L" + move(.9, -.9) + "L" + move(.9, .9) + "L" + move(-.9, .9) + "Z"
	case 2: // triangle
		d = "M" + move(0, -1.15) + "L" + move(1.1, .85) + "L" + move(-1.1, .85) + "Z"
	case 3: // diamond
		d = "M" + move(0, -1.3) + "L" + move(1.3, 0) + "L" + move(0, 1.3) + "L" + move(-1.3, 0) + "Z"
	case 4: // triangle upside down
		d = "M" + move(0, 1.15) + "L" + move(1.1, -.85) + "L" + move(-1.1, -.85) + "Z"
	default: // bar
		d = "M" + move(-.5, -1.2) + "L" + move(.5, -1.2) + "L" + move(.5, 1.2) + "L" + move(-.5, 1.2) + "Z"
	}
	c.path("f"+seriesClass(i)+" halo", d, tooltip)
}

// dot is one round.
func (c *canvas) dot(x, y float64, tooltip string) {
	c.mark(`<circle class="dot" r="2.8" cx="`+px(x)+`" cy="`+px(y)+`"`, "circle", tooltip)
}

// series is how many contenders have a colour, a dash and a mark of their own. More
// of them begin again; the labels still tell them apart.
const series = 6

func seriesClass(i int) string { return strconv.Itoa(i % series) }

// px writes a coordinate with a tenth of a unit, which no screen resolves. What is
// not a number must not end up in a picture.
func px(v float64) string {
	if !finite(v) {
		return "0"
	}
	v = math.Round(max(-1e5, min(v, 1e5))*10) / 10
	if v == 0 {
		return "0"
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// polyline joins points as a path.
func polyline(points []point) string {
	var b strings.Builder
	for i, p := range points {
		if i == 0 {
			b.WriteByte('M')
		} else {
			b.WriteByte('L')
		}
		b.WriteString(px(p.x) + " " + px(p.y))
	}
	return b.String()
}

type point struct{ x, y float64 }
