package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	loadreport "hostlocal/loadtest/report"
)

func loadtestCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "check FILE...",
		Short:   "Say what is wrong with scenario files, line by line",
		Long:    "Check reads scenario files and names every problem with its line. Exit status 2 if there is one.",
		Example: "  registryd loadtest check my-deploy.yaml",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var wrong []error
			for _, name := range args {
				s, err := readScenario(name)
				if err == nil {
					_, err = parseAssertions(s.Assert)
				}
				if err != nil {
					wrong = append(wrong, err)
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is good: %s, %d pulls\n", name, s.Name, s.Clients.Count)
			}
			if len(wrong) > 0 {
				return &exitError{exitUsage, errors.Join(wrong...)}
			}
			return nil
		},
	}
}

// parseAssertions reads all, and names all that are wrong.
func parseAssertions(texts []string) ([]loadreport.Assertion, error) {
	var all []loadreport.Assertion
	var wrong []error
	for _, text := range texts {
		a, err := loadreport.ParseAssertion(text)
		all, wrong = append(all, a), append(wrong, err)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return all, nil
}
