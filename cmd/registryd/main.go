// Registryd is a container registry that runs on every host. It answers docker
// pull from the host's own disk, fills that disk from a bucket that all hosts
// share, and fills the bucket from the upstream registries.
//
// This package is the command: it reads the configuration, and it is the only
// place that knows every other package and puts them together. The invariant is
// that a daemon either starts and is ready, or says in one message all that keeps
// it from starting.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run()) }

// run is main with an exit code: 0, or another after a message on stderr.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command().ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "registryd:", err)
	return statusOf(err)
}

// help is what a command that only groups others does.
func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// command returns the root command. Completions for bash, zsh, fish and
// powershell come with it: registryd completion --help.
func command() *cobra.Command {
	var file string
	root := &cobra.Command{
		Use:           "registryd",
		Short:         "A container registry on every host, over one shared bucket",
		SilenceUsage:  true, // a failed pull is no reason to explain the flags
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          help, // runnable, so that a word that is no command is an error
	}
	root.PersistentFlags().StringVarP(&file, "config", "c", "", "configuration `file` (default $REGISTRYD_CONFIG, else built-in defaults)")
	cobra.CheckErr(root.MarkPersistentFlagFilename("config", "yaml", "yml"))
	loaded := func() (*config, []string, error) { return load(configFile(file), os.Environ()) }
	root.AddCommand(
		serveCommand(loaded),
		statusCommand(loaded),
		resolveCommand(loaded),
		refreshCommand(loaded),
		evictCommand(loaded),
		importCommand(loaded),
		configCommand(loaded),
		loadtestCommand(),
		versionCommand(),
	)
	return root
}
