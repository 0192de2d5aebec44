package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hostlocal/loadtest"
)

// The quantities that a ladder can raise, as Ladder.Of names them.
const (
	OfClients = "clients"
	OfBlobs   = "cached blobs"
	OfSize    = "blob size"
)

// Steps returns the values that a ladder of a quantity has by default; nil if there
// is no such quantity.
func Steps(of string) []int64 {
	switch of {
	case OfClients:
		return []int64{1, 10, 100, 1_000, 5_000}
	case OfBlobs:
		return []int64{1_000, 10_000, 50_000, 200_000}
	case OfSize:
		return []int64{1 << 20, 8 << 20, 64 << 20, 512 << 20}
	}
	return nil
}

// Ladder carries the experiment out once for each value of a quantity, the lowest
// first, with a turn for each contender at each. There is no round that does not
// count: the lowest step is one. Errors are those of Run, and the report has the
// steps until then.
func (e Experiment) Ladder(ctx context.Context, of string, values []int64) (loadtest.Report, error) {
	report := loadtest.Report{
		Machine: thisMachine(), Started: time.Now(), Scenario: e.Scenario, Ladder: &loadtest.Ladder{Of: of},
	}
	err := e.climb(ctx, &report, of, slices.Sorted(slices.Values(values)))
	if err != nil {
		report.Ended, _, _ = strings.Cut(err.Error(), "\n")
	}
	report.Wall = time.Since(report.Started)
	return report, err
}

func (e Experiment) climb(ctx context.Context, report *loadtest.Report, of string, values []int64) error {
	e.single, e.steps = true, len(values)
	for i, v := range values {
		at, err := e.at(of, v)
		if err != nil {
			return err
		}
		at.stepsDone = i
		one, err := at.Run(ctx)
		for _, c := range one.Contenders {
			for _, m := range c.Rounds {
				report.Ladder.Steps = append(report.Ladder.Steps, loadtest.Step{Value: v, Contender: c.Name, Measurement: m})
			}
		}
		if err != nil {
			if !errors.Is(err, ErrInterrupted) {
				err = fmt.Errorf("at %d %s: %w", v, of, err)
			}
			return err
		}
	}
	return nil
}

// at returns the experiment at one value of a quantity.
func (e Experiment) at(of string, v int64) (Experiment, error) {
	switch of {
	case OfClients:
		e.Scenario = e.Scenario.With(int(v), 0)
	case OfBlobs:
		e.Blobs = int(v)
	case OfSize:
		e.Scenario.Images = loadtest.Images{Count: e.Scenario.Images.Count, Layers: []loadtest.Size{loadtest.Size(v)}}
	default:
		return e, fmt.Errorf("no ladder of %q: there are %s, %s and %s", of, OfClients, OfBlobs, OfSize)
	}
	return e, e.Scenario.Check()
}
