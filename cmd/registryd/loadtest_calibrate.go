package main

import (
	"fmt"
	"io"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"hostlocal/loadtest"
)

func loadtestCalibrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "calibrate",
		Short: "Measure what this tool can do on this machine",
		Long: `Calibrate measures the tool against a server that costs next to nothing: what it can pull, ask
and hash in a second, and how many clients it can be at once. A run that comes near to these
figures measures the tool; run says so when it does.`,
		Args: cobra.NoArgs,
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := loadtest.Calibrate(cmd.Context())
		if err != nil {
			return &exitError{exitTool, fmt.Errorf("calibrating: %w", err)}
		}
		return report{cmd.OutOrStdout(), *asJSON}.print(c, func(w io.Writer) {
			fmt.Fprintf(w, "pulls of a tiny image\t%.0f a second\n", c.PullsPerSecond)
			fmt.Fprintf(w, "requests of 4 KiB\t%.0f a second\n", c.RequestsPerSecond)
			fmt.Fprintf(w, "bytes, hashed\t%s a second\n", units.BytesSize(c.BytesPerSecond))
			fmt.Fprintf(w, "clients at once\t%d\n", c.Clients)
		})
	}
	return cmd
}
