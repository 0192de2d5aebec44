package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"hostlocal/loadtest"
	"hostlocal/loadtest/hub"
)

// Serve serves a scenario's images on a listen address, host:port, until ctx ends.
// Its faults are counted from the first request. It prints what there is to pull,
// and at the end what was asked and sent. A CDN and a token server are reached on
// loopback only.
func Serve(ctx context.Context, s loadtest.Scenario, listen string, out io.Writer) (err error) {
	h, err := hub.Start(hub.Listen(listen), hub.Shaped(Shape(s.Upstream)), hub.Remember(1))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	set, err := build(ctx, s, h)
	if err != nil {
		return err
	}
	if err := set.list(out, h.URL); err != nil {
		return err
	}
	if h.Wait(ctx, hub.All(), 1) == nil {
		stop, err := h.Play(Faults(s.Faults, "upstream"))
		if err != nil {
			return err
		}
		<-ctx.Done()
		if err := stop(); err != nil {
			return err
		}
	}
	return tell(out, Traffic(h))
}

// maxListed bounds how many images are named one by one.
const maxListed = 20

func (s *Set) list(out io.Writer, url string) error {
	if _, err := fmt.Fprintf(out, "serving %d images, %.1f MiB in %d pulls' distinct content, at %s\n",
		len(s.images), mib(s.Wanted(s.Jobs())), len(s.pulls), url); err != nil {
		return err
	}
	for i, img := range s.images {
		if i == maxListed {
			fmt.Fprintf(out, "  and %d more\n", len(s.images)-i)
			break
		}
		fmt.Fprintf(out, "  %s\n", img.Name())
	}
	return nil
}

// tell prints what a hub was asked and what it sent.
func tell(out io.Writer, t loadtest.Traffic) error {
	for _, kind := range slices.Sorted(maps.Keys(t.Requests)) {
		fmt.Fprintf(out, "%10d  %s\n", t.Requests[kind], kind)
	}
	_, err := fmt.Fprintf(out, "%10d  refused\n%10.1f  MiB of content sent, of %d digests\n%10.1f  MiB on the wire\n",
		t.Refused, mib(t.Sent), len(t.Fetched), mib(t.Wire))
	return err
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
