package main

import (
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hostlocal/loadtest/lab"
	"hostlocal/loadtest/target"
)

// A choice is which contenders there are, and where they come from.
type choice struct {
	targets  []string
	compare  []string
	binaries []string
	remote   bool
	upstream string
	there    bool
	ns       string
	prefix   string
	profiles string
}

func (c *choice) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&c.targets, "target", "t", nil, "contender: "+strings.Join(target.Kinds(), ", ")+", or the `URL` of a registry that runs, several hosts with commas between (default registryd)")
	f.StringSliceVar(&c.compare, "compare", nil, "several `contenders` in turn, with commas between; the first is the measure")
	f.StringArrayVar(&c.binaries, "bin", nil, "`NAME=PATH` of a contender's binary, or minio's, or versitygw's; PATH is searched otherwise")
	f.BoolVar(&c.remote, "allow-remote", false, "load may be sent to other hosts than this one")
	f.StringVar(&c.upstream, "upstream", "", "`HOST:PORT` at which a --target URL expects its upstream, which is served there")
	f.BoolVar(&c.there, "images-there", false, "a --target URL has the scenario's images already, from loadtest upstream for example: nothing is served")
	f.StringVar(&c.ns, "ns", "", "`host` that a --target URL is told with ?ns=, as containerd tells a mirror")
	f.StringVar(&c.prefix, "prefix", "", "`text` that a --target URL wants before each repository's name, such as hub.test/")
	f.StringVar(&c.profiles, "pprof", "", "`folder` for CPU and heap profiles of registryd and distribution")
	complete := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return target.Kinds(), cobra.ShellCompDirectiveNoFileComp
	}
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("target", complete))
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("compare", complete))
	cobra.CheckErr(cmd.MarkFlagDirname("pprof"))
}

// experiment returns what was chosen, without a scenario.
func (c *choice) experiment() (lab.Experiment, error) {
	names := slices.Concat(c.targets, c.compare)
	if len(names) == 0 {
		names = []string{"registryd"}
	}
	binaries := map[string]string{}
	for _, b := range c.binaries {
		name, path, ok := strings.Cut(b, "=")
		if !ok || name == "" || path == "" {
			return lab.Experiment{}, exit(exitUsage, "--bin %q: write NAME=PATH, such as zot=/opt/zot/bin/zot", b)
		}
		binaries[name] = path
	}
	if c.profiles != "" {
		if err := os.MkdirAll(c.profiles, 0o755); err != nil {
			return lab.Experiment{}, exit(exitUsage, "--pprof: %w", err)
		}
	}
	return lab.Experiment{
		Contenders: names, Binaries: binaries, Remote: c.remote, Upstream: c.upstream, There: c.there,
		Namespace: c.ns, Prefix: c.prefix, Profiles: c.profiles,
	}, nil
}
