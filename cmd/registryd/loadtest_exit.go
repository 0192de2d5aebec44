package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"hostlocal/loadtest"
	"hostlocal/loadtest/child"
	"hostlocal/loadtest/lab"
	"hostlocal/loadtest/target"
)

// The exit statuses of loadtest, which its help lists for people. Scripts depend on
// them.
const (
	exitAssertion   = 1
	exitUsage       = 2
	exitTarget      = 3
	exitDied        = 4
	exitWrong       = 5
	exitDescriptors = 6
	exitReport      = 7
	exitTool        = 8
	exitInterrupted = 130 // as a shell says of a process that ctrl-C ended
)

// An exitError ends the program with a status of its own instead of 1.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func exit(status int, format string, args ...any) error {
	return &exitError{status, fmt.Errorf(format, args...)}
}

// statusOf returns what an error ends the program with.
func statusOf(err error) int {
	var e *exitError
	if errors.As(err, &e) {
		return e.status
	}
	return 1
}

// exitOfRun gives what ended an experiment early its status.
func exitOfRun(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{statusOfRun(err), err}
}

func statusOfRun(err error) int {
	var e *exitError
	switch {
	case errors.As(err, &e):
		return e.status
	case errors.Is(err, lab.ErrInterrupted):
		return exitInterrupted
	case errors.Is(err, loadtest.ErrScenario), errors.Is(err, target.ErrUnknown), errors.Is(err, target.ErrUnable):
		return exitUsage
	case errors.Is(err, target.ErrDied):
		return exitDied
	case errors.Is(err, child.ErrBinary), errors.Is(err, child.ErrStart), errors.Is(err, target.ErrRemote), errors.Is(err, target.ErrUnreachable):
		return exitTarget
	}
	return exitTool
}

// The kinds of failures, of those that a measurement has, that say more than that a
// pull failed. A body of the wrong length that ended well is wrong bytes too.
var (
	kindsWrong       = []string{"wrong digest", "wrong length"}
	kindsDescriptors = []string{"out of descriptors"}
)

// exitOfResults is the status of a run that came to its end: that no registry may
// serve wrong bytes holds whatever is asserted.
func exitOfResults(r loadtest.Report) error {
	if example, n := countFailures(r, kindsWrong); n > 0 {
		return exit(exitWrong, "wrong bytes were served %d times as if they were right, such as %s", n, example)
	}
	if example, n := countFailures(r, kindsDescriptors); n > 0 {
		return exit(exitDescriptors, "this tool ran out of descriptors %d times, so the figures are its own (%s): raise the limit with ulimit -n, or lower --clients", n, example)
	}
	var broken []string
	for _, v := range r.Verdicts {
		if !v.OK {
			broken = append(broken, fmt.Sprintf("%s (%s has %.4g)", v.Assertion, v.Contender, v.Value))
		}
	}
	if len(broken) > 0 {
		return exit(exitAssertion, "%d of %d assertions do not hold: %s", len(broken), len(r.Verdicts), strings.Join(broken, ", "))
	}
	return nil
}

// countFailures counts those of some kinds over all that was measured.
func countFailures(r loadtest.Report, kinds []string) (example string, n int) {
	count := func(m loadtest.Measurement) {
		for _, f := range m.Failures {
			if slices.Contains(kinds, f.Kind) {
				n += f.Count
				if len(f.Examples) > 0 {
					example = f.Examples[0]
				}
			}
		}
	}
	for _, c := range r.Contenders {
		for _, m := range c.Rounds {
			count(m)
		}
	}
	if r.Ladder != nil {
		for _, s := range r.Ladder.Steps {
			count(s.Measurement)
		}
	}
	return example, n
}
