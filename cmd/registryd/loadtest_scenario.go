package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hostlocal/loadtest"
)

// A variation is how the command line changes a scenario.
type variation struct {
	clients int
	scale   float64
	seed    uint64
	timeout time.Duration
}

func (v *variation) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&v.clients, "clients", 0, "`number` of pulls instead of the scenario's; shares of slow clients and rates of arrival stay")
	f.Float64Var(&v.scale, "scale", 0, "`factor` on the size of every layer above 1 MiB")
	f.Uint64Var(&v.seed, "seed", 0, "`number` that images, arrivals and the order of contenders follow from, instead of the scenario's")
	f.DurationVar(&v.timeout, "timeout", 0, "`time` that one pull may take, instead of the scenario's")
}

// scenario returns the scenario of a name or a file, changed as the command line
// says.
func (v *variation) scenario(nameOrFile string) (loadtest.Scenario, error) {
	s, err := readScenario(nameOrFile)
	if err != nil {
		return s, err
	}
	if v.clients < 0 || v.scale < 0 || v.timeout < 0 {
		return s, exit(exitUsage, "--clients, --scale and --timeout cannot be negative")
	}
	s = s.With(v.clients, v.scale)
	if v.seed != 0 {
		s.Seed = v.seed
	}
	if v.timeout != 0 {
		s.Timeout = v.timeout
	}
	if err := s.Check(); err != nil {
		return s, &exitError{exitUsage, err}
	}
	return s, nil
}

// readScenario returns a scenario that comes with the tool, or a file's. A name has
// neither a slash nor a dot, so that a file of that name is said as ./name.
func readScenario(nameOrFile string) (loadtest.Scenario, error) {
	if s, ok := loadtest.Named(nameOrFile); ok {
		return s, nil
	}
	text, err := os.ReadFile(nameOrFile)
	if errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(nameOrFile, "/.") {
		var names []string
		for _, s := range loadtest.Scenarios() {
			names = append(names, s.Name)
		}
		return loadtest.Scenario{}, exit(exitUsage, "no scenario is called %q: there are %s, and a file is named as ./my.yaml", nameOrFile, strings.Join(names, ", "))
	}
	if err != nil {
		return loadtest.Scenario{}, &exitError{exitUsage, err}
	}
	s, err := loadtest.Parse(nameOrFile, text)
	if err != nil {
		return s, &exitError{exitUsage, err}
	}
	return s, nil
}
