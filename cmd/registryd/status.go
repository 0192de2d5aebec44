package main

import (
	"fmt"
	"io"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"hostlocal/registryd"
	"hostlocal/registryd/notify"
	"hostlocal/s3store"
)

// overview is the admin API's answer, with the parts of other packages in their own
// types.
type overview struct {
	registryd.Overview
	Cache    cacheStatus     `json:"cache"`
	Sources  sources         `json:"sources"`
	Webhooks []notify.Status `json:"webhooks,omitempty"`
}

func statusCommand(load loader) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the cache, the fills, the upstreams and the store of the running daemon",
		Long:  "Status asks the daemon's admin API. Its exit code is 0 if the daemon answers: one that serves from its disk while an upstream is down is well.",
		Args:  cobra.NoArgs,
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, _, err := load()
		if err != nil {
			return err
		}
		var o overview
		if err := newClient(c.admin[0]).get(cmd.Context(), "/api/v1/status", nil, &o); err != nil {
			return err
		}
		return report{cmd.OutOrStdout(), *asJSON}.print(o, func(w io.Writer) { o.show(w) })
	}
	return cmd
}

// show writes the overview for a person.
func (o *overview) show(w io.Writer) {
	line := func(what, format string, args ...any) { fmt.Fprintf(w, what+"\t"+format+"\n", args...) }
	line("registryd", "%s, up for %s", o.Version, time.Since(o.Started).Round(time.Second))
	o.Cache.show(line)
	switch s := o.Store; {
	case !s.Configured:
		line("store", "none")
	case s.Failures > 0:
		line("store", "%s, %d failures in a row", trouble(s.Trouble, s.Since), s.Failures)
	case o.Sources.Store.Writable == s3store.No:
		line("store", "read only for this host: %s", o.Sources.Store.Refusal)
	case s.Mirror:
		line("store", "ok, keeps what is pulled through")
	default:
		line("store", "ok, for own repositories")
	}
	if b := o.WriteBack; b.Pending+b.Refused+int(b.Done)+int(b.Failed) > 0 {
		text := fmt.Sprintf("%d pending, %d done", b.Pending, b.Done)
		if b.Refused > 0 {
			text = fmt.Sprintf("%d wait for the right to write, %d done", b.Refused, b.Done)
		}
		if b.Trouble != "" {
			text += ", " + b.Trouble
		}
		line("write-back", "%s", text)
	}
	for _, u := range o.Upstreams {
		line("upstream", "%s: %s%s", u.Name, trouble(u.Trouble, u.Since), o.Sources.rateText(u.Name))
	}
	for _, h := range o.Webhooks {
		line("webhook", "%s: %s, %s", h.Name, trouble(h.Trouble, h.Since), h.Counts())
	}
	if o.Stale > 0 {
		line("stale", "%d answers with a tag that was not confirmed in time", o.Stale)
	}
}

// bytesText is a number of bytes for a person.
func bytesText(n int64) string { return units.BytesSize(float64(n)) }
