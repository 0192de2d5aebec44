package lab

import "math/rand/v2"

// A step is one contender's turn in one round.
type step struct {
	contender int // index
	name      string
	round     int // from 1; 0 does not count
}

// plan returns all turns in their order: round by round, each round in an order of
// its own, which follows from the scenario's seed.
func (e Experiment) plan() (steps []step) {
	first := 1
	if e.warmUp() {
		first = 0
	}
	random := rand.New(rand.NewPCG(e.Scenario.Seed, 0x0de4))
	rounds := max(1, e.Rounds)
	if e.single {
		rounds = 1
	}
	for round := first; round <= rounds; round++ {
		for _, i := range random.Perm(len(e.Contenders)) {
			steps = append(steps, step{contender: i, name: e.Contenders[i], round: round})
		}
	}
	return steps
}
