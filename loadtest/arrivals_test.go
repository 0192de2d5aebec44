package loadtest

import (
	"slices"
	"testing"
	"time"
)

func due(t *testing.T, a Arrivals, n int, seed uint64) []time.Duration {
	t.Helper()
	d, err := a.Due(n, seed)
	if err != nil || len(d) != n || d[0] != 0 || !slices.IsSorted(d) {
		t.Fatalf("%+v of %d: %v, %v", a, n, d, err)
	}
	return d
}

// before returns the share of d that is due before at.
func before(d []time.Duration, at time.Duration) float64 {
	i, _ := slices.BinarySearch(d, at)
	return float64(i) / float64(len(d))
}

func TestPacesHaveTheirShape(t *testing.T) {
	const n, over = 1000, 10 * time.Second
	type at map[time.Duration]float64 // share of pulls due by then
	for pace, want := range map[string]at{
		"constant": {over / 4: 0.25, over / 2: 0.5, 3 * over / 4: 0.75, over + 1: 1},
		"ramp":     {over / 4: 0.08, over / 2: 0.275, 3 * over / 4: 0.58, over + over/10: 1},
		"sine":     {over / 4: 0.107, over / 2: 0.5, 3 * over / 4: 0.893, over + over/10: 1},
		"burst":    {over / 4: 0.25, over / 2: 0.5, 3 * over / 4: 0.75, over: 1},
	} {
		d := due(t, Arrivals{Pace: pace, Over: over}, n, 1)
		for at, share := range want {
			if got := before(d, at); got < share-0.05 || got > share+0.05 {
				t.Errorf("%s: %.3f of the pulls are due by %v, not %.3f", pace, got, at, share)
			}
		}
	}
	if d := due(t, Arrivals{}, 50, 1); d[49] != 0 {
		t.Errorf("a burst takes %v", d[49])
	}
	d := due(t, Arrivals{Pace: "waves", Waves: 4, Every: 3 * time.Second, Over: time.Second}, 10, 1)
	for w, size := range []int{2, 3, 2, 3} { // 10 in 4
		start := time.Duration(w) * 3 * time.Second
		in := 0
		for _, at := range d {
			if at >= start-time.Second && at < start+time.Second {
				in++
			}
		}
		if in != size {
			t.Errorf("%d pulls in wave %d, not %d: %v", in, w, size, d)
		}
	}
	if d := due(t, Arrivals{Pace: "sine", Over: time.Hour, Every: time.Minute}, 1, 1); d[0] != 0 {
		t.Error(d)
	}
}

func TestTraceHasBurstsOf220TimesTheMean(t *testing.T) {
	const n, over = 10_000, 100 * time.Second
	d := due(t, Arrivals{Pace: "trace", Over: over}, n, 1)
	const run = 20 // so many pulls in a row
	most := 0.0
	for i := run; i < n; i++ {
		if gap := d[i] - d[i-run]; gap > 0 {
			most = max(most, run/gap.Seconds())
		}
	}
	if ratio := most / (n / over.Seconds()); ratio < 200 || ratio > 500 { // two bursts may meet
		t.Errorf("the densest moment has %.0f times the mean", ratio)
	}
}

func TestArrivalsComeFromTheSeed(t *testing.T) {
	for _, a := range []Arrivals{{Pace: "burst", Over: time.Second}, {Pace: "trace", Over: time.Minute}, {Pace: "waves", Waves: 3, Every: time.Second, Over: time.Second}} {
		one, again, other := due(t, a, 500, 7), due(t, a, 500, 7), due(t, a, 500, 8)
		if !slices.Equal(one, again) || slices.Equal(one, other) {
			t.Errorf("%+v does not follow the seed", a)
		}
	}
	c := Clients{Count: 100, Rate: 1, Slow: 20, Leave: 10}
	one, again, other := roles(c, 100, 1), roles(c, 100, 1), roles(c, 100, 2)
	both := func(r role) bool { return r.slow && r.leaves }
	if !slices.Equal(one, again) || slices.Equal(one, other) || slices.ContainsFunc(one, both) {
		t.Error("who is slow and who leaves does not follow the seed")
	}
}

func TestScenarioMadeSmallerKeepsItsShape(t *testing.T) {
	s := Scenario{
		Clients: Clients{Count: 100, Slow: 20, Leave: 1, Sample: 50}, Arrivals: Arrivals{Over: time.Minute, Waves: 30, Every: 2 * time.Second},
		Faults: []Fault{{At: time.Second, For: 3 * time.Second}},
	}
	small := s.With(10, 0.5)
	if c := small.Clients; c.Count != 10 || c.Slow != 2 || c.Leave != 1 || c.Sample != 10 {
		t.Errorf("%+v", c)
	}
	if a := small.Arrivals; a.Over != 6*time.Second || a.Waves != 10 || a.Every != 200*time.Millisecond {
		t.Errorf("%+v", a)
	}
	if f := small.Faults[0]; f.At != 500*time.Millisecond || f.For != 3*time.Second || small.Images.Scale != 0.5 || s.Faults[0].At != time.Second {
		t.Errorf("%+v, and before %+v", small, s)
	}
	if same := s.With(0, 0); same.Clients.Count != 100 || same.Images.Scale != 0 {
		t.Errorf("%+v", same)
	}
}

func TestQuantilesAreExact(t *testing.T) {
	var d []time.Duration
	for i := 1000; i > 0; i-- {
		d = append(d, time.Duration(i))
	}
	if q := QuantilesOf(d); q != (Quantiles{1000, 500, 500, 900, 990, 999, 1000}) {
		t.Errorf("%+v", q)
	}
	if q := QuantilesOf([]time.Duration{5}); q != (Quantiles{1, 5, 5, 5, 5, 5, 5}) {
		t.Errorf("%+v", q)
	}
	if q := QuantilesOf(nil); q != (Quantiles{}) {
		t.Errorf("%+v", q)
	}
}
