package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"time"

	"hostlocal/loadtest"
	"hostlocal/loadtest/hub"
	"hostlocal/loadtest/images"
)

// ServeUpstream is the process of an experiment's upstream: it does what it is told
// over descriptor 3, and ends when that does.
func ServeUpstream() error {
	file := os.NewFile(3, "parent")
	conn, err := net.FileConn(file)
	if err != nil {
		return errors.New("this command is for loadtest run, which starts it; for people there is loadtest upstream")
	}
	file.Close()
	s := &served{}
	server := rpc.NewServer()
	if err := server.RegisterName("Upstream", s); err != nil {
		return err
	}
	server.ServeCodec(jsonrpc.NewServerCodec(conn))
	if s.hub == nil {
		return nil
	}
	return s.hub.Close()
}

// served is what the process can be told. Its methods have the form of net/rpc's, and
// are called one after the other by the experiment.
type served struct {
	hub  *hub.Hub
	stop func() error // of the faults that play
}

// opening says what is served, and where: host:port. (An alias, because net/rpc wants
// types that have no name or an exported one.)
type opening = struct {
	Scenario loadtest.Scenario
	Listen   string
}

// opened says where it is served, and what there is to pull. The process that asks
// would have to hash all images to know; pulls have tags, so their digests are left out.
type opened = struct {
	URL          string
	Jobs, Warmup []pull
}

type pull = struct {
	Repo, Tag string
	Daemon    int
}

func pulls(jobs []loadtest.Job) []pull {
	out := make([]pull, len(jobs))
	for i, j := range jobs {
		out[i] = pull{j.Repo, j.Tag, j.Daemon}
	}
	return out
}

// nothing is what a method takes or returns that needs no more.
type nothing = struct{}

// Open starts serving the scenario's images.
func (s *served) Open(o opening, reply *opened) error {
	h, err := hub.Start(hub.Listen(o.Listen), hub.Shaped(images.Shape(o.Scenario.Upstream)))
	if err != nil {
		return fmt.Errorf("starting the fake upstream: %w", err)
	}
	set, err := images.Build(o.Scenario, h)
	if err != nil {
		return errors.Join(fmt.Errorf("making the images: %w", err), h.Close())
	}
	s.hub = h
	*reply = opened{h.URL, pulls(set.Jobs()), pulls(set.Warmup())}
	return nil
}

// Shape gives the line a shape, with all its pulls, and forgets what was counted.
func (s *served) Shape(l loadtest.Line, _ *nothing) error {
	s.hub.SetShape(images.Shape(l))
	s.hub.Forget()
	return nil
}

// Play lets those of the faults happen from now on that are the upstream's.
func (s *served) Play(faults []loadtest.Fault, _ *nothing) (err error) {
	s.stop, err = s.hub.Play(images.Faults(faults, "upstream"))
	return err
}

// Stop ends the faults.
func (s *served) Stop(nothing, *nothing) error { return s.stop() }

// Settled waits until nothing is being answered, or for the limit, and returns what
// was asked and sent.
func (s *served) Settled(limit time.Duration, t *loadtest.Traffic) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	s.hub.WaitIdle(ctx) // or not: what counts is what was sent by now
	*t = images.Traffic(s.hub)
	return nil
}
