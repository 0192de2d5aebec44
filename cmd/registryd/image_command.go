package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"hostlocal/registryd"
)

// imageBody is what the admin API takes for an image.
type imageBody struct {
	Image string `json:"image"`
}

// jsonFlag adds --json to a command.
func jsonFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print JSON, for programs")
}

func refreshCommand(load loader) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "refresh IMAGE",
		Short:   "Ask the upstream now what a tag stands for",
		Long:    "Refresh has the daemon ask the image's source what its tag stands for, whatever the tag's policy and TTL.",
		Example: "  registryd refresh debian:12\n  registryd refresh ghcr.io/owner/app:v1",
		Args:    cobra.ExactArgs(1),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, _, err := load()
		if err != nil {
			return err
		}
		var r registryd.Refreshed
		if err := newClient(c.admin[0]).post(cmd.Context(), "/api/v1/refresh", imageBody{args[0]}, &r); err != nil {
			return err
		}
		return report{cmd.OutOrStdout(), *asJSON}.print(r, func(w io.Writer) {
			switch {
			case r.Before == r.Now:
				fmt.Fprintf(w, "%s:%s is still %s\n", r.Repository, r.Tag, r.Now)
			case r.Before.IsZero():
				fmt.Fprintf(w, "%s:%s is %s\n", r.Repository, r.Tag, r.Now)
			default:
				fmt.Fprintf(w, "%s:%s is now %s, and was %s\n", r.Repository, r.Tag, r.Now, r.Before)
			}
		})
	}
	return cmd
}

func evictCommand(load loader) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "evict IMAGE",
		Short:   "Take an image from this host's disk",
		Long:    "Evict takes an image's manifests, its blobs and what is known of its tag from this host's disk. The bucket and the upstream keep theirs, and the next pull fetches it again.",
		Example: "  registryd evict debian:12",
		Args:    cobra.ExactArgs(1),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, _, err := load()
		if err != nil {
			return err
		}
		var e registryd.Evicted
		if err := newClient(c.admin[0]).post(cmd.Context(), "/api/v1/evict", imageBody{args[0]}, &e); err != nil {
			return err
		}
		return report{cmd.OutOrStdout(), *asJSON}.print(e, func(w io.Writer) {
			fmt.Fprintf(w, "%s: %d manifests and %d blobs evicted, %s\n", e.Repository, e.Manifests, e.Blobs, units.BytesSize(float64(e.Bytes)))
		})
	}
	return cmd
}

func resolveCommand(load loader) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resolve NAME",
		Short: "Say what an image name means here, and why",
		Long: "Resolve says which repository a name means, by which rule, and what is known of its tag on this host.\n" +
			"Without a running daemon it says what follows from the configuration alone.",
		Example: "  registryd resolve debian\n  registryd resolve team/app:v1\n  registryd resolve ghcr.io/owner/app@sha256:...",
		Args:    cobra.ExactArgs(1),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, _, err := load()
		if err != nil {
			return err
		}
		var e registryd.Explanation
		err = newClient(c.admin[0]).get(cmd.Context(), "/api/v1/resolve", url.Values{"name": {args[0]}}, &e)
		if errors.Is(err, errNotRunning) {
			fmt.Fprintf(cmd.ErrOrStderr(), "no daemon answers at %s; from the configuration alone:\n", c.admin[0])
			e, err = c.explain(args[0])
		}
		if err != nil {
			return err
		}
		return report{cmd.OutOrStdout(), *asJSON}.print(e, func(w io.Writer) { explain(w, e) })
	}
	return cmd
}

// explain writes an explanation for a person.
func explain(w io.Writer, e registryd.Explanation) {
	line := func(what, format string, args ...any) { fmt.Fprintf(w, what+"\t"+format+"\n", args...) }
	line("repository", "%s", e.Repository)
	if e.Upstream == "" {
		line("source", "the bucket's own")
	} else {
		line("source", "%s, as %s", e.Upstream, e.Path)
	}
	line("because", "%s", e.Why)
	if e.Tag != "" {
		line("tag", "%s, policy %s", e.Tag, cmp.Or(e.Policy, "always"))
	}
	if !e.Digest.IsZero() {
		line("digest", "%s", e.Digest)
	}
	if !e.Confirmed.IsZero() {
		line("confirmed", "%s", ago(e.Confirmed))
	}
	if e.OnDisk {
		line("on disk", "yes")
	}
}
