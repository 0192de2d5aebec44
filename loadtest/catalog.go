package loadtest

import (
	"embed"
	"math"
	"slices"
	"strings"
	"time"
)

//go:embed scenarios/*.yaml
var files embed.FS

// Scenarios returns the scenarios that come with the tool, by name.
func Scenarios() []Scenario {
	entries, err := files.ReadDir("scenarios")
	if err != nil {
		panic(err) // embedded
	}
	var all []Scenario
	for _, e := range entries {
		text, _ := Source(strings.TrimSuffix(e.Name(), ".yaml"))
		s, err := Parse(e.Name(), text)
		if err != nil {
			panic(err) // embedded, and a test has read it
		}
		all = append(all, s)
	}
	return all
}

// Named returns the scenario of that name among those that come with the tool.
func Named(name string) (Scenario, bool) {
	all := Scenarios()
	i := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, false
	}
	return all[i], true
}

// Source returns the file of a scenario that comes with the tool, to be read by
// people and to begin one's own from.
func Source(name string) ([]byte, bool) {
	text, err := files.ReadFile("scenarios/" + name + ".yaml")
	return text, err == nil
}

// With returns the same load with another number of clients, where that is not 0,
// and with layers that are scale times as large, where that is not 0. Shares stay
// shares: those who are slow or leave, and the time over which pulls arrive, so that
// their rate is what it was; a fault comes as much earlier as there are fewer bytes
// before it. What is a property of a network or of a daemon stays.
func (s Scenario) With(clients int, scale float64) Scenario {
	if clients > 0 && s.Clients.Count > 0 && clients != s.Clients.Count {
		share := float64(clients) / float64(s.Clients.Count)
		of := func(n int) int { return min(int(math.Ceil(float64(n)*share)), clients) }
		s.Clients.Slow, s.Clients.Leave = of(s.Clients.Slow), of(s.Clients.Leave)
		s.Clients.Sample = min(s.Clients.Sample, clients)
		s.Arrivals.Waves = min(s.Arrivals.Waves, clients)
		s.Arrivals.Over = times(s.Arrivals.Over, share)
		s.Arrivals.Every = times(s.Arrivals.Every, share)
		s.Clients.Count = clients
	}
	if scale > 0 && scale != 1 {
		if s.Images.Scale == 0 {
			s.Images.Scale = 1
		}
		s.Images.Scale *= scale
		s.Faults = slices.Clone(s.Faults)
		for i := range s.Faults {
			s.Faults[i].At = times(s.Faults[i].At, scale)
		}
	}
	return s
}

// times returns d times f; what was more than nothing stays so, and a day is a day.
func times(d time.Duration, f float64) time.Duration {
	if d == 0 {
		return 0
	}
	return time.Duration(min(max(float64(d)*f, 1), float64(maxTime)))
}
