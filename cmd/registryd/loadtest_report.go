package main

import (
	"os"

	"github.com/spf13/cobra"

	loadreport "hostlocal/loadtest/report"
)

func loadtestReportCommand() *cobra.Command {
	var l loadRun
	cmd := &cobra.Command{
		Use:   "report FILE.json",
		Short: "Show a report of an earlier run again, and judge it anew",
		Long: `Report reads what run --json has written, prints its summary, and writes it as a page with
--report. With --assert it is judged by other assertions than those of the run.`,
		Example: "  registryd loadtest report storm.json --report storm.html --assert 'p99(pull)<=5s'",
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().StringArrayVar(&l.asserts, "assert", nil, "`assertion` that must hold, instead of the run's; may be repeated")
	l.output.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := os.Open(args[0])
		if err != nil {
			return &exitError{exitUsage, err}
		}
		defer f.Close()
		r, err := loadreport.ReadJSON(f)
		if err != nil {
			return exit(exitUsage, "%s: %w", args[0], err)
		}
		if len(l.asserts) > 0 {
			asserts, err := parseAssertions(l.asserts)
			if err != nil {
				return err
			}
			r.Verdicts = loadreport.Check(r, asserts)
		}
		if err := l.open(); err != nil {
			return err
		}
		defer l.output.close()
		return l.conclude(cmd, r, nil)
	}
	return cmd
}
