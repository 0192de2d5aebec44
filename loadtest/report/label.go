package report

// A labeller puts names beside what they name and keeps them apart. A label that
// finds no room near its place goes where it was asked to: two names that overlap
// are better than a line without one.
type labeller struct {
	canvas      *canvas
	left, right float64 // between which labels stay
	top, bottom float64
	taken       []box
}

type box struct{ x1, y1, x2, y2 float64 }

func (b box) overlaps(o box) bool {
	return b.x1 < o.x2 && o.x1 < b.x2 && b.y1 < o.y2 && o.y1 < b.y2
}

const (
	labelHeight = 13  // of 12px text, with air
	letterWidth = 6.7 // of 12px text: the mean of common sans faces, rounded up
)

func textWidth(s string) float64 { return float64(len([]rune(s))) * letterWidth }

// put writes s near (x, y), right of it if there is room and else left.
func (l *labeller) put(x, y float64, class, s string) {
	width := textWidth(s)
	at := func(dy float64) (float64, float64, string, box) {
		ly := max(l.top+labelHeight/2, min(y+dy, l.bottom-labelHeight/2))
		if x+8+width <= l.right {
			return x + 8, ly, "start", box{x + 8, ly - labelHeight/2, x + 8 + width, ly + labelHeight/2}
		}
		lx := min(x-8, l.right)
		if lx-width < l.left { // no room on either side
			lx = l.right
		}
		return lx, ly, "end", box{lx - width, ly - labelHeight/2, lx, ly + labelHeight/2}
	}
	best := 0.0
	first := -1.0 // above
	if len(l.taken) > 0 {
		first = 1 // the line above has its name above it, so this one's goes below
	}
	for _, steps := range []float64{0, first, -first, 2 * first, -2 * first, 3 * first, -3 * first, 4 * first, -4 * first} {
		dy := steps * labelHeight
		_, _, anchor, b := at(dy)
		if anchor == "end" && dy == 0 { // it would stand on its own line
			continue
		}
		if !l.hits(b) {
			best = dy
			break
		}
	}
	lx, ly, anchor, b := at(best)
	l.taken = append(l.taken, b)
	l.canvas.text(lx, ly+4, class+" halo", anchor, s)
}

func (l *labeller) hits(b box) bool {
	for _, t := range l.taken {
		if b.overlaps(t) {
			return true
		}
	}
	return false
}
