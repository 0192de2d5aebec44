package main

import (
	"context"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"hostlocal/loadtest"
	"hostlocal/loadtest/lab"
)

// A rung is a quantity that ladder raises: how the command line calls it, and the
// scenario it has unless another is said.
type rung struct{ flag, of, scenario string }

var rungs = []rung{
	{"clients", lab.OfClients, "cold-herd"},
	{"blobs", lab.OfBlobs, "warm-burst"},
	{"size", lab.OfSize, "cold-herd"},
}

func loadtestLadderCommand() *cobra.Command {
	var l loadRun
	var of string
	var steps []string
	cmd := &cobra.Command{
		Use:   "ladder [NAME|FILE]",
		Short: "Raise the clients, the cached blobs or a blob's size step by step",
		Long: `Ladder carries a scenario out again and again while one quantity grows, and draws how wait,
memory and CPU time grow with it:

  --of clients   how many pull at once: 1, 10, 100, 1000, 5000 (cold-herd)
  --of blobs     how many blobs lie in registryd's cache: 1000 to 200000 (warm-burst)
  --of size      how large the image's one layer is: 1MiB to 512MiB (cold-herd)`,
		Example: `  registryd loadtest ladder --scale 0.1 --report ladder.html
  registryd loadtest ladder --of blobs --steps 1000,100000
  registryd loadtest ladder --of clients --compare registryd,distribution --steps 1,10,100`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: scenarioNames,
	}
	l.flags(cmd)
	cmd.Flags().StringVar(&of, "of", "clients", "`what` grows: clients, blobs, size")
	cmd.Flags().StringSliceVar(&steps, "steps", nil, "`values` with commas between, such as 1,10,100 or 1MiB,1GiB")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("of", cobra.FixedCompletions([]string{"clients", "blobs", "size"}, cobra.ShellCompDirectiveNoFileComp)))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, values, err := climb(of, steps)
		if err != nil {
			return err
		}
		s, err := l.scenario(strings.Join(append(args, r.scenario)[:1], ""))
		if err != nil {
			return err
		}
		return l.carryOut(cmd, s, "", func(ctx context.Context, e lab.Experiment) (loadtest.Report, error) {
			return e.Ladder(ctx, r.of, values)
		})
	}
	return cmd
}

// climb returns which quantity is meant, and its values.
func climb(of string, steps []string) (rung, []int64, error) {
	for _, r := range rungs {
		if r.flag != of {
			continue
		}
		if len(steps) == 0 {
			return r, lab.Steps(r.of), nil
		}
		var values []int64
		for _, text := range steps {
			n, err := loadtest.ParseSize(text)
			if err != nil || n < 1 || n > math.MaxInt32 && r.of != lab.OfSize {
				return r, nil, exit(exitUsage, "--steps: %q is no number of %s", text, r.of)
			}
			values = append(values, int64(n))
		}
		return r, values, nil
	}
	return rung{}, nil, exit(exitUsage, "--of %s: there are clients, blobs and size", of)
}
