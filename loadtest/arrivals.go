package loadtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// Due returns when each of n pulls is due, in order, the first at 0. It depends on
// nothing but its arguments, and never on how pulls fare: that is what keeps the
// load open.
func (a Arrivals) Due(n int, seed uint64) ([]time.Duration, error) {
	if n <= 0 {
		return nil, nil
	}
	random := rand.New(rand.NewPCG(seed, 0xa441))
	var due []time.Duration
	switch a.Pace {
	case "", "burst":
		due = scatter(random, n, 0, a.Over)
	case "waves":
		waves := max(a.Waves, 1)
		for w := range waves {
			size := n*(w+1)/waves - n*w/waves
			due = append(due, scatter(random, size, time.Duration(w)*a.Every, a.Over)...)
		}
	case "trace":
		due = trace(random, n, a.Over)
	case "constant", "ramp", "sine":
		if n == 1 || a.Over <= 0 {
			due = make([]time.Duration, n)
			break
		}
		due = paced(a.pacer(n), n)
	default:
		return nil, fmt.Errorf("%w: pace %q is not known", ErrScenario, a.Pace)
	}
	slices.Sort(due)
	first := due[0]
	for i := range due {
		due[i] -= first
	}
	return due, nil
}

// pacer returns vegeta's for n hits within Over.
func (a Arrivals) pacer(n int) vegeta.Pacer {
	mean := vegeta.Rate{Freq: n, Per: a.Over}
	switch a.Pace {
	case "ramp":
		// From a tenth of the mean rate; the slope is what makes the sum n.
		start := vegeta.Rate{Freq: n, Per: 10 * a.Over}
		over := a.Over.Seconds()
		return vegeta.LinearPacer{StartAt: start, Slope: 1.8 * float64(n) / (over * over)}
	case "sine":
		period := a.Every
		if period == 0 {
			period = a.Over
		}
		// Between a tenth of the mean and nearly twice of it.
		return vegeta.SinePacer{Period: period, Mean: mean, Amp: vegeta.Rate{Freq: 9 * n, Per: 10 * a.Over}, StartAt: vegeta.Trough}
	}
	return mean
}

// paced asks p for n hits, as if each took no time.
func paced(p vegeta.Pacer, n int) []time.Duration {
	due := make([]time.Duration, n)
	var elapsed time.Duration
	for i := range due {
		wait, stop := p.Pace(elapsed, uint64(i))
		if !stop {
			elapsed += max(wait, 0)
		}
		due[i] = elapsed
	}
	return due
}

// scatter puts n pulls at random within over from start on; all at start if over
// is 0.
func scatter(random *rand.Rand, n int, start, over time.Duration) []time.Duration {
	due := make([]time.Duration, n)
	for i := range due {
		due[i] = start
		if over > 0 {
			due[i] += time.Duration(random.Int64N(int64(over)))
		}
	}
	return due
}

const (
	// burstRate is how much faster than the mean pulls come in a burst, in the
	// traces of IBM's registries.
	burstRate = 220

	// burstShare is how many of the pulls are in bursts, and burstSize how many are
	// in one on average: about what a deploy of a service has.
	burstShare = 0.5
	burstSize  = 40
)

// trace is a day of a registry: pulls at random moments, and bursts among them.
func trace(random *rand.Rand, n int, over time.Duration) []time.Duration {
	inBursts := int(float64(n) * burstShare)
	due := scatter(random, n-inBursts, 0, over)
	gap := max(time.Duration(float64(over)/float64(n)/burstRate), 1)
	for inBursts > 0 {
		size := min(1+int(random.ExpFloat64()*burstSize), inBursts)
		length := min(time.Duration(size)*gap, over)
		start := time.Duration(random.Int64N(int64(over-length) + 1))
		for i := range size {
			due = append(due, start+time.Duration(i)*gap)
		}
		inBursts -= size
	}
	return due
}
