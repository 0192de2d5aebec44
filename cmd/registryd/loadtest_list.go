package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"hostlocal/loadtest"
)

func loadtestListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [NAME]",
		Short: "Say which scenarios come with the tool, or print one as a file to start from",
		Example: `  registryd loadtest list
  registryd loadtest list cold-herd > my-deploy.yaml`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: scenarioNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			out := cmd.OutOrStdout()
			if len(args) == 1 {
				text, ok := loadtest.Source(args[0])
				if !ok {
					_, err := readScenario(args[0])
					if err == nil {
						err = exit(exitUsage, "%q is a file, and list prints those that come with the tool", args[0])
					}
					return err
				}
				_, err := out.Write(text)
				return err
			}
			for _, s := range loadtest.Scenarios() {
				fmt.Fprintf(out, "%s\n%s\n\n", s.Name, wrapped(s.Description))
			}
			return nil
		},
	}
}

// listWidth is the column at which descriptions wrap: a terminal's, less the indent.
const listWidth = 76

// wrapped breaks a text into indented lines.
func wrapped(text string) string {
	var b strings.Builder
	column := 0
	for _, word := range strings.Fields(text) {
		switch {
		case column == 0:
			b.WriteString("    ")
		case column+1+len(word) > listWidth:
			b.WriteString("\n    ")
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
