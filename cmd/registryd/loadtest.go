package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"hostlocal/loadtest"
)

// loadtestCommand groups what re-enacts a pull storm. None of it reads the
// daemon's configuration: a contender of the test has one of its own.
func loadtestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "loadtest",
		Short: "Re-enact a pull storm, and say what happened",
		Long: `Loadtest re-enacts a fleet that starts a deploy at once, against this daemon or anybody
else's registry, and says what happened: how long clients waited, how many bytes the upstream
sent for each byte wanted, what it cost.

It brings everything along: a fake upstream with images made from a seed, clients that pull as
docker, containerd and podman do, and the contenders themselves, which it starts on loopback in
temporary folders with the settings that their own documentation advises. Load goes only where
you point it; what is not on this host needs --allow-remote.

Exit status:
  0    all went well
  1    the run is complete, and an assertion does not hold
  2    the command line or a scenario is wrong
  3    a target cannot be measured: no binary, no answer, not on this host
  4    a target ended in the middle
  5    a target served wrong bytes as if they were right
  6    this tool ran out of descriptors
  7    the report could not be written
  8    another fault of the tool's own: its upstream, its bucket
  130  interrupted; the report has what there was until then`,
		Example: `  registryd loadtest list
  registryd loadtest run cold-herd
  registryd loadtest run cold-herd --compare registryd,distribution,nginx --rounds 5 --report storm.html
  registryd loadtest run my-deploy.yaml --assert 'amplification<=1.01' --assert 'p99(pull)<=3s'`,
		Args: cobra.NoArgs,
		RunE: help,
	}
	cmd.AddCommand(
		loadtestRunCommand(),
		loadtestListCommand(),
		loadtestCheckCommand(),
		loadtestUpstreamCommand(),
		loadtestServeUpstreamCommand(),
		loadtestCalibrateCommand(),
		loadtestLadderCommand(),
		loadtestReportCommand(),
	)
	return cmd
}

// scenarioNames completes the names of the scenarios that come with the tool, and
// files.
func scenarioNames(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, s := range loadtest.Scenarios() {
		names = append(names, fmt.Sprintf("%s\t%s", s.Name, s.Description))
	}
	return names, cobra.ShellCompDirectiveDefault
}
