package report

import (
	"cmp"
	"math"
)

// A scale maps values to a range of pixels, by value or by its logarithm.
type scale struct {
	min, max float64
	log      bool
	binary   bool    // ticks of a log scale are powers of two
	whole    bool    // there is nothing between 1 and 2
	from, to float64 // pixels of min and max
	unit     float64 // of which linear ticks are round numbers; 0 means 1
}

// at is the pixel of v; what lies outside is put at the edge.
func (s scale) at(v float64) float64 {
	a, b := s.min, s.max
	if s.log {
		v, a, b = math.Log10(max(v, s.min)), math.Log10(a), math.Log10(b)
	}
	share := 0.0
	if b > a && finite(v) {
		share = max(0, min((v-a)/(b-a), 1))
	}
	return s.from + share*(s.to-s.from)
}

// linearScale begins at zero and ends at a round number not below most.
func linearScale(most, from, to float64) scale {
	if !finite(most) || most <= 0 {
		most = 1
	}
	step := roundStep(most / 4)
	return scale{min: 0, max: math.Ceil(most/step-1e-9) * step, from: from, to: to}
}

// countScale is linear, for whole things.
func countScale(most, from, to float64) scale {
	if !finite(most) || most <= 0 {
		most = 1
	}
	step := wholeStep(most / 4)
	return scale{min: 0, max: math.Ceil(most/step-1e-9) * step, from: from, to: to, whole: true}
}

// wholeStep is the next of 1, 2, 5 times a power of ten, and at least 1.
func wholeStep(v float64) float64 {
	if step := roundStep(max(v, 1)); step != 2.5 {
		return step
	}
	return 5
}

// exactScale begins at zero and ends at most, for an axis that several pictures
// share.
func exactScale(most, from, to float64) scale {
	if !finite(most) || most <= 0 {
		most = 1
	}
	return scale{min: 0, max: most, from: from, to: to}
}

// logScale covers least to most, widened to 1, 2 or 5 of a decade.
func logScale(least, most, from, to float64) scale {
	if !finite(least) || least <= 0 {
		least = 1e-6
	}
	if !finite(most) || most <= least {
		most = least * 10
	}
	return scale{min: roundLog(least, false), max: roundLog(most, true), log: true, from: from, to: to}
}

// tooWide is from which ratio on a linear axis would press the small ones flat.
const tooWide = 8

// fitScale is logarithmic where the values need it.
func fitScale(least, most, from, to float64) scale {
	if least > 0 && most/least > tooWide {
		return logScale(least, most, from, to)
	}
	return linearScale(most, from, to)
}

// ticks are at most about n values that a person would choose.
func (s scale) ticks(n int) []float64 {
	var ts []float64
	if !s.log {
		unit := cmp.Or(s.unit, 1)
		step := roundStep((s.max-s.min)/unit/float64(n)) * unit
		if s.whole {
			step = wholeStep((s.max - s.min) / float64(n))
		}
		for i := 0; i <= 2*n+2; i++ {
			if v := s.min + float64(i)*step; v <= s.max*(1+1e-9) {
				ts = append(ts, v)
			}
		}
		return ts
	}
	if s.binary {
		return s.powersOfTwo(n)
	}
	decades := math.Log10(s.max / s.min)
	steps := []float64{1, 2, 5}
	switch {
	case decades > float64(n)/1.3:
		steps = []float64{1}
	case decades > float64(n)/2.6:
		steps = []float64{1, 3}
	}
	every := max(1, int(math.Ceil(decades/float64(n))))
	first := int(math.Floor(math.Log10(s.min) + 1e-9))
	for e := first; e <= first+400; e++ {
		if (e-first)%every != 0 {
			continue
		}
		for _, m := range steps {
			v := m * math.Pow(10, float64(e))
			if v > s.max*(1+1e-9) {
				return ts
			}
			if v >= s.min*(1-1e-9) {
				ts = append(ts, v)
			}
		}
	}
	return ts
}

func (s scale) powersOfTwo(n int) []float64 {
	first, last := math.Ceil(math.Log2(s.min)-1e-9), math.Floor(math.Log2(s.max)+1e-9)
	every := max(1, math.Ceil((last-first)/float64(n)))
	var ts []float64
	for e := first; e <= last; e += every {
		ts = append(ts, math.Exp2(e))
	}
	return ts
}

// roundStep is the next of 1, 2, 2.5, 5 times a power of ten.
func roundStep(v float64) float64 {
	if !finite(v) || v <= 0 {
		return 1
	}
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 2.5, 5} {
		if v <= m*p*(1+1e-9) {
			return m * p
		}
	}
	return 10 * p
}

// roundLog is the neighbour of v among 1, 2, 5 times a power of ten.
func roundLog(v float64, up bool) float64 {
	p := math.Pow(10, math.Floor(math.Log10(v)))
	best := p
	for _, m := range []float64{1, 2, 5, 10} {
		if up && m*p >= v*(1-1e-9) {
			return m * p
		}
		if m*p <= v*(1+1e-9) {
			best = m * p
		}
	}
	return best
}

// byteScale makes round steps in the unit that bytes are written in.
func byteScale(most, from, to float64, k kind) scale {
	unit := units[k][unitOf(most, k)].size
	s := linearScale(most/unit, from, to)
	s.max, s.unit = s.max*unit, unit
	return s
}

// tickText writes the value of a tick without idle zeros: 0, 0.5 s, 20 s.
func tickText(v float64, k kind) string {
	if v == 0 {
		return "0"
	}
	unit := unitOf(v, k)
	if k == seconds {
		unit = min(unit, 2) // an axis does not change to minutes half-way
	}
	q := formatIn(v, k, unit)
	return quantity{trimZeros(q.Number), q.Unit}.String()
}

func trimZeros(s string) string {
	point := false
	for _, r := range s {
		point = point || r == '.'
	}
	for point && len(s) > 1 && (s[len(s)-1] == '0' || s[len(s)-1] == '.') {
		point = s[len(s)-1] != '.'
		s = s[:len(s)-1]
	}
	return s
}
