package report

import (
	"fmt"
	"math"
	"slices"

	"hostlocal/loadtest"
)

// An Assertion is something that must hold of a run: "amplification<=1.01",
// "p99(pull)<=3s", "wall/wall(nginx)<=1.3". The grammar is in expression.go.
//
// It is about the first contender, which is the one under test; the others are
// there to be named: wall(nginx). With several rounds each side is computed within
// each round, a ratio therefore between turns that stood next to each other, and
// the median of the left side's rounds is compared with the median of the right
// side's. What was not measured holds nothing: the assertion fails.
type Assertion struct {
	text        string
	left, right expression
	op          string
}

// ParseAssertion reads an assertion. An error says which part is wrong and what
// could stand there.
func ParseAssertion(text string) (Assertion, error) {
	if len(text) > maxAssertion {
		return Assertion{}, fmt.Errorf("an assertion has at most %d characters, this one has %d", maxAssertion, len(text))
	}
	p := parser{lexer{text: text}}
	left, right, op, err := p.assertion()
	if err != nil {
		return Assertion{}, fmt.Errorf("the assertion %q: %w", text, err)
	}
	return Assertion{text, left, right, op}, nil
}

// String is the assertion as it was written.
func (a Assertion) String() string { return a.text }

// Contenders are the contenders that the assertion names; a command can say before
// the run that one of them is not in it.
func (a Assertion) Contenders() []string {
	names := slices.Concat(a.left.contenders, a.right.contenders)
	slices.Sort(names)
	return slices.Compact(names)
}

// Check judges the report. The value of a verdict is the left side's, NaN if it was
// not measured. On a ladder each step of the first contender gets its verdict, and
// a named contender means its measurement at the same step. A report without
// anything measured fails every assertion.
func Check(r loadtest.Report, as []Assertion) []loadtest.Verdict {
	var verdicts []loadtest.Verdict
	for _, a := range as {
		switch {
		case len(r.Contenders) > 0:
			first := r.Contenders[0]
			rounds := make([]round, len(first.Rounds))
			for i := range rounds {
				rounds[i] = roundOf(r.Contenders, i)
			}
			verdicts = append(verdicts, a.judge(first.Name, rounds))
		case r.Ladder != nil && len(r.Ladder.Steps) > 0:
			verdicts = append(verdicts, a.judgeLadder(*r.Ladder)...)
		default:
			verdicts = append(verdicts, a.judge("", nil))
		}
	}
	return verdicts
}

// roundOf is what contenders measured in round i.
func roundOf(cs []loadtest.Contender, i int) round {
	return func(name string) *loadtest.Measurement {
		at := 0
		if name != "" {
			at = slices.IndexFunc(cs, func(c loadtest.Contender) bool { return c.Name == name })
		}
		if at < 0 || i >= len(cs[at].Rounds) {
			return nil
		}
		return &cs[at].Rounds[i]
	}
}

func (a Assertion) judgeLadder(l loadtest.Ladder) []loadtest.Verdict {
	first := l.Steps[0].Contender
	var verdicts []loadtest.Verdict
	for _, step := range l.Steps {
		if step.Contender != first {
			continue
		}
		lookup := func(name string) *loadtest.Measurement {
			if name == "" {
				name = first
			}
			i := slices.IndexFunc(l.Steps, func(s loadtest.Step) bool { return s.Contender == name && s.Value == step.Value })
			if i < 0 {
				return nil
			}
			return &l.Steps[i].Measurement
		}
		verdicts = append(verdicts, a.judge(fmt.Sprintf("%s at %s", first, stepName(l, step.Value)), []round{lookup}))
	}
	return verdicts
}

// judge compares the medians over the rounds.
func (a Assertion) judge(contender string, rounds []round) loadtest.Verdict {
	var left, right []float64
	for _, r := range rounds {
		left = append(left, a.left.value(r))
		right = append(right, a.right.value(r))
	}
	v := loadtest.Verdict{Assertion: a.text, Contender: contender, Value: math.NaN()}
	l, r := spreadOf(left), spreadOf(right)
	// A round that could not be measured is not left out quietly: a gate must not
	// become greener because a round broke.
	if l.rounds < len(rounds) || r.rounds < len(rounds) || len(rounds) == 0 {
		return v
	}
	v.Value, v.OK = l.median, compare(l.median, a.op, r.median)
	return v
}

func compare(a float64, op string, b float64) bool {
	switch op {
	case "<=":
		return a <= b
	case ">=":
		return a >= b
	case "<":
		return a < b
	case ">":
		return a > b
	case "==":
		return a == b
	}
	return a != b
}
