package report

import (
	"cmp"
	"math"
	"slices"

	"hostlocal/loadtest"
)

// A spread is one quantity over the rounds of a contender: the median speaks, the
// extremes say how far to trust it. All are NaN if no round has the quantity.
type spread struct {
	median, low, high float64
	rounds            int
}

// spreadOf skips what is not a number: a round that lacks a quantity says nothing
// about it.
func spreadOf(values []float64) spread {
	values = slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return !finite(v) })
	if len(values) == 0 {
		return spread{math.NaN(), math.NaN(), math.NaN(), 0}
	}
	slices.Sort(values)
	n := len(values)
	middle := values[n/2]
	if n%2 == 0 {
		middle = values[n/2-1] + (values[n/2]-values[n/2-1])/2
	}
	return spread{middle, values[0], values[n-1], n}
}

// noise is how far the rounds of one contender lie apart, as a share of their
// median: what the machine adds by itself. NaN with fewer than two rounds.
func (s spread) noise() float64 {
	if s.rounds < 2 || s.median == 0 {
		return math.NaN()
	}
	return (s.high - s.low) / math.Abs(s.median)
}

// aroundOne is whether the rounds of a ratio disagree on which is more.
func (s spread) aroundOne() bool { return s.rounds > 1 && s.low <= 1 && s.high >= 1 }

// overRounds is a column of a contender.
func overRounds(c loadtest.Contender, col column) spread {
	values := make([]float64, len(c.Rounds))
	for i := range c.Rounds {
		values[i] = col.of(&c.Rounds[i])
	}
	return spreadOf(values)
}

// ratioTo divides round by round. A round that only one of the two has says
// nothing.
func ratioTo(base, c loadtest.Contender, col column) spread {
	var ratios []float64
	for i := range min(len(base.Rounds), len(c.Rounds)) {
		ratios = append(ratios, col.of(&c.Rounds[i])/col.of(&base.Rounds[i]))
	}
	return spreadOf(ratios)
}

// typicalRound is the round that the time lines draw: the one in the middle by its
// wall time, of two in the middle the slower, which flatters nobody. It is nil if
// there is none.
func typicalRound(c loadtest.Contender) *loadtest.Measurement {
	if len(c.Rounds) == 0 {
		return nil
	}
	order := make([]int, len(c.Rounds))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(c.Rounds[a].Wall, c.Rounds[b].Wall) })
	return &c.Rounds[order[len(order)/2]]
}

// mostRounds is how many rounds the contender with the most has.
func mostRounds(cs []loadtest.Contender) int {
	n := 0
	for _, c := range cs {
		n = max(n, len(c.Rounds))
	}
	return n
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
