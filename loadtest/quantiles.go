package loadtest

import (
	"math"
	"slices"
	"time"
)

// QuantilesOf sums up d exactly: each quantile is the smallest value that at least
// that share of d does not exceed. It sorts d.
func QuantilesOf(d []time.Duration) Quantiles {
	if len(d) == 0 {
		return Quantiles{}
	}
	slices.Sort(d)
	at := func(q float64) time.Duration {
		return d[max(int(math.Ceil(q*float64(len(d))))-1, 0)]
	}
	mean := 0.0
	for _, v := range d {
		mean += float64(v) / float64(len(d))
	}
	return Quantiles{len(d), time.Duration(mean), at(0.5), at(0.9), at(0.99), at(0.999), d[len(d)-1]}
}
