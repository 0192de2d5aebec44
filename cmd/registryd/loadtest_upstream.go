package main

import (
	"net"
	"time"

	"github.com/spf13/cobra"

	"hostlocal/loadtest"
	"hostlocal/loadtest/images"
	"hostlocal/loadtest/lab"
)

func loadtestUpstreamCommand() *cobra.Command {
	var v variation
	var line loadtest.Line
	var listen string
	var remote bool
	cmd := &cobra.Command{
		Use:   "upstream NAME|FILE",
		Short: "Serve a scenario's images as a registry would, to be cached by whatever you like",
		Long: `Upstream serves a scenario's images, generated as they are sent, with the scenario's latency,
rates, limits and faults, until ctrl-C; then it says what it was asked and what it sent. Point a
cache at it, and clients at the cache. The faults are counted from the first request.`,
		Example: `  registryd loadtest upstream cold-herd --listen 127.0.0.1:15000
  registryd loadtest upstream upstream-limit --pulls 5 --latency 100ms`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: scenarioNames,
	}
	v.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:15000", "`HOST:PORT` of the registry")
	f.BoolVar(&remote, "allow-remote", false, "listen on an address that others can reach")
	f.DurationVar(&line.Latency, "latency", 0, "`time` from a request to its first byte, instead of the scenario's")
	rate := f.String("connection-rate", "", "`bytes` a second on one connection, such as 12MiB, instead of the scenario's")
	f.IntVar(&line.Pulls, "pulls", 0, "`number` of manifests before 429, instead of the scenario's")
	f.BoolVar(&line.Token, "token", false, "ask for a token, as Docker Hub does")
	f.BoolVar(&line.CDN, "cdn", false, "redirect blobs to another port")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := v.scenario(args[0])
		if err != nil {
			return err
		}
		if *rate != "" {
			if line.ConnectionRate, err = loadtest.ParseSize(*rate); err != nil {
				return &exitError{exitUsage, err}
			}
		}
		s.Upstream = overLine(s.Upstream, line)
		if err := s.Check(); err != nil {
			return &exitError{exitUsage, err}
		}
		host, _, err := net.SplitHostPort(listen)
		if err != nil {
			return exit(exitUsage, "--listen %s: %w", listen, err)
		}
		if ip := net.ParseIP(host); !remote && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return exit(exitUsage, "--listen %s can be reached by others: if that is meant, add --allow-remote", listen)
		}
		if err := images.Serve(cmd.Context(), s, listen, cmd.OutOrStdout()); err != nil {
			return &exitError{exitTool, err}
		}
		return nil
	}
	return cmd
}

// loadtestServeUpstreamCommand is the upstream of an experiment: a process that run
// and ladder start.
func loadtestServeUpstreamCommand() *cobra.Command {
	return &cobra.Command{
		Use:    lab.UpstreamCommand,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return lab.ServeUpstream() },
	}
}

// overLine returns a line with what the command line says put over it.
func overLine(l, said loadtest.Line) loadtest.Line {
	or(&l.Latency, said.Latency)
	or(&l.ConnectionRate, said.ConnectionRate)
	or(&l.Pulls, said.Pulls)
	or(&l.Token, said.Token)
	or(&l.CDN, said.CDN)
	return l
}

// or sets a value to what was said, if anything was.
func or[T time.Duration | loadtest.Size | int | bool](v *T, said T) {
	var nothing T
	if said != nothing {
		*v = said
	}
}
