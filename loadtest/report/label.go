package report

import "math"

// A labeller puts names beside what they name, clear of each other and of lines. A
// label that finds no free place takes the one that hides least: two that touch are
// better than a line without a name.
type labeller struct {
	canvas      *canvas
	left, right float64 // between which labels stay
	top, bottom float64
	taken       []box
	drawn       []point // lines, as points close enough that no label slips between
}

type box struct{ x1, y1, x2, y2 float64 }

func (b box) overlaps(o box) bool {
	return b.x1 < o.x2 && o.x1 < b.x2 && b.y1 < o.y2 && o.y1 < b.y2
}

func (b box) contains(p point) bool { return b.x1 < p.x && p.x < b.x2 && b.y1 < p.y && p.y < b.y2 }

const (
	labelHeight = 13  // of 12px text, with air
	letterWidth = 6.7 // of 12px text: the mean of common sans faces, rounded up
	lineGrain   = 4   // pixels between the points that stand for a line
)

func textWidth(s string) float64 { return float64(len([]rune(s))) * letterWidth }

// avoid makes a line something that labels stay clear of.
func (l *labeller) avoid(points []point) {
	for i := 1; i < len(points); i++ {
		a, b := points[i-1], points[i]
		steps := min(math.Ceil(math.Hypot(b.x-a.x, b.y-a.y)/lineGrain), 400)
		for k := range int(steps) {
			t := float64(k) / steps
			l.drawn = append(l.drawn, point{a.x + t*(b.x-a.x), a.y + t*(b.y-a.y)})
		}
	}
}

// put writes s near (x, y): beside it, above or below.
func (l *labeller) put(x, y float64, class, s string) {
	width := textWidth(s)
	best, least := box{}, math.Inf(1)
	anchorOf := func(b box) string {
		if b.x1 > x {
			return "start"
		}
		return "end"
	}
	for i, dy := range []float64{0, -1, 1, -1.5, 1.5, -2, 2, -3, 3, -4, 4, -5, 5} {
		ly := max(l.top+labelHeight/2, min(y+dy*labelHeight, l.bottom-labelHeight/2))
		for side, x1 := range []float64{x + 8, x - 8 - width, min(x-width/2, l.right-width)} {
			b := box{x1, ly - labelHeight/2, x1 + width, ly + labelHeight/2}
			// What is out of the picture is worst, then what hides a name, then a line, then
			// distance.
			cost := 1000*(max(0, b.x2-l.right)+max(0, l.left-b.x1)) + float64(i) + .3*float64(side)
			for _, t := range l.taken {
				if b.overlaps(t) {
					cost += 200
				}
			}
			for _, p := range l.drawn {
				if b.contains(p) {
					cost += 8
				}
			}
			if cost < least {
				best, least = b, cost
			}
		}
	}
	l.taken = append(l.taken, best)
	anchor, at := anchorOf(best), best.x1
	if anchor == "end" {
		at = best.x2
	}
	l.canvas.text(at, (best.y1+best.y2)/2+4, class+" halo", anchor, s)
}
