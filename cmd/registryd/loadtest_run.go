package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	vegeta "github.com/tsenart/vegeta/v12/lib"

	"hostlocal/loadtest"
	"hostlocal/loadtest/lab"
	loadreport "hostlocal/loadtest/report"
)

// A loadRun is what run and ladder have in common: what is measured, and where the
// report goes.
type loadRun struct {
	variation
	choice
	output
	asserts   []string
	calibrate bool
}

func (l *loadRun) flags(cmd *cobra.Command) {
	l.choice.flags(cmd)
	l.variation.flags(cmd)
	cmd.Flags().StringArrayVar(&l.asserts, "assert", nil, "`assertion` that must hold, instead of the scenario's, such as 'p99(pull)<=3s'; may be repeated")
	cmd.Flags().BoolVar(&l.calibrate, "calibrate", true, "measure this tool first, which takes some seconds")
	l.output.flags(cmd)
}

func loadtestRunCommand() *cobra.Command {
	var l loadRun
	var rounds int
	var results string
	cmd := &cobra.Command{
		Use:   "run NAME|FILE",
		Short: "Carry a scenario out, on one contender or several in turn",
		Long: `Run carries a scenario out: one that comes with the tool (see loadtest list), or a file.

With --compare every contender meets the same images and the same load, in rounds: each round
gives each one its turn, in an order drawn anew, with an empty cache and an empty bucket. The
first round does not count. Ratios are taken within a round, and their spread is reported.

Whether a run was good is what its assertions say; a failed pull alone does not change the exit
status (see loadtest --help), wrong bytes do. Quantities that an assertion can name: amplification,
errors, failed, wall, p50(pull) to p999(pull) and max(pull), the same of first_byte, rss_peak,
cpu_per_gib and more, and those of another contender as in wall/wall(nginx)<=1.3.`,
		Example: `  registryd loadtest run cold-herd
  registryd loadtest run warm-burst --compare registryd,nginx,distribution --rounds 5 --report warm.html
  registryd loadtest run cold-herd --target http://127.0.0.1:5000 --upstream 127.0.0.1:15000
  registryd loadtest run cold-herd --clients 1000 --assert 'amplification<=1.01' --pprof profiles`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: scenarioNames,
	}
	l.flags(cmd)
	cmd.Flags().IntVar(&rounds, "rounds", 1, "`number` of rounds that count")
	cmd.Flags().StringVar(&results, "results", "", "`file` for every request in vegeta's encoding, for vegeta report and vegeta plot")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := l.scenario(args[0])
		if err != nil {
			return err
		}
		if rounds < 1 || rounds > maxRounds {
			return exit(exitUsage, "--rounds %d: there can be 1 to %d", rounds, maxRounds)
		}
		return l.carryOut(cmd, s, results, func(ctx context.Context, e lab.Experiment) (loadtest.Report, error) {
			e.Rounds = rounds
			return e.Run(ctx)
		})
	}
	return cmd
}

// maxRounds bounds the rounds of a comparison: a report keeps every pull of each.
const maxRounds = 100

// carryOut does what run and ladder do alike, around the experiment itself: what
// can be wrong is found before, and what there is is reported after, also when it
// ended early.
func (l *loadRun) carryOut(cmd *cobra.Command, s loadtest.Scenario, results string, do func(context.Context, lab.Experiment) (loadtest.Report, error)) (err error) {
	if len(l.asserts) > 0 {
		s.Assert = l.asserts
	}
	asserts, err := parseAssertions(s.Assert)
	if err != nil {
		return err
	}
	e, err := l.experiment()
	if err != nil {
		return err
	}
	for _, a := range asserts {
		for _, name := range a.Contenders() {
			if !slices.Contains(e.Contenders, name) {
				return exit(exitUsage, "the assertion %s is about %s, which is not in this run; it has %s", a, name, strings.Join(e.Contenders, ", "))
			}
		}
	}
	e.Scenario = s
	if err := e.Check(); err != nil {
		return exitOfRun(err)
	}
	if err := l.open(); err != nil {
		return err
	}
	defer l.output.close()
	if results != "" {
		f, err := os.Create(results)
		if err != nil {
			return exit(exitReport, "the results could not be written: %w", err)
		}
		defer func() { err = cmp.Or(err, f.Close()) }()
		encode := vegeta.NewEncoder(f)
		e.Results = func(r *vegeta.Result) error {
			if err := encode(r); err != nil {
				return exit(exitReport, "%s: %w", results, err)
			}
			return nil
		}
	}
	var tool loadtest.Calibration
	if l.calibrate {
		if tool, err = loadtest.Calibrate(cmd.Context()); err != nil {
			return exit(exitTool, "calibrating: %w", err)
		}
	}
	screen := newScreen(cmd.ErrOrStderr())
	e.Observe = screen.show
	r, ended := do(cmd.Context(), e)
	screen.done()
	r.Version, r.Command, r.Tool = versionString(), commandLine(), tool
	if ended == nil {
		r.Verdicts = loadreport.Check(r, asserts)
	}
	return l.conclude(cmd, r, ended)
}

// conclude reports, and says how it went: what ended the run early comes before a
// report that could not be written, and that before what the run found.
func (l *loadRun) conclude(cmd *cobra.Command, r loadtest.Report, ended error) error {
	out := cmd.OutOrStdout()
	saved := l.save(r)
	if len(r.Contenders) > 0 || r.Ladder != nil {
		width, colour := terminal(out)
		if err := loadreport.Summary(out, r, width, colour); err != nil {
			return exit(exitReport, "the summary could not be written: %w", err)
		}
	}
	if saved == nil {
		for _, f := range l.files {
			fmt.Fprintf(out, "%s is written\n", f.name)
		}
	}
	if ended != nil {
		return &exitError{statusOfRun(ended), errors.Join(ended, saved)}
	}
	if saved != nil {
		return saved
	}
	return exitOfResults(r)
}

// commandLine is what was typed; nothing of it is a secret: no flag takes one, and
// a URL with a password is refused.
func commandLine() []string { return append([]string{"registryd"}, os.Args[1:]...) }
