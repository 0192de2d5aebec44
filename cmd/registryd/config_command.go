package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// A loader returns the effective configuration and its warnings.
type loader func() (*config, []string, error)

// configCommand groups the commands that look at a configuration and touch nothing.
func configCommand(load loader) *cobra.Command {
	group := &cobra.Command{
		Use:   "config",
		Short: "Check or show the configuration",
		Args:  cobra.NoArgs,
		RunE:  help,
	}
	group.AddCommand(
		&cobra.Command{
			Use:   "check",
			Short: "Say whether a daemon would start with this configuration",
			Long:  "Check reads the file and the environment as serve does, names every problem with its line, and creates nothing.",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, warnings, err := load()
				if err != nil {
					return err
				}
				for _, w := range warnings {
					fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
				}
				fmt.Fprintln(cmd.OutOrStdout(), "the configuration is good")
				return nil
			},
		},
		&cobra.Command{
			Use:   "show",
			Short: "Print the effective configuration, and where each value was said",
			Long:  "Show prints all keys with their effective values, as a file that serve reads. Passwords are hidden.",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, _, err := load()
				if err == nil {
					c.show(cmd.OutOrStdout())
				}
				return err
			},
		},
	)
	return group
}
