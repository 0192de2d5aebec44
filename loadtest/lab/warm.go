package lab

import (
	"context"
	"fmt"
	"time"

	"hostlocal/loadtest"
	"hostlocal/loadtest/target"
)

// prepare brings the contender to where the scenario begins.
func (t *turn) prepare(ctx context.Context) error {
	if t.Scenario.Push && target.TakesPushes(t.name) {
		t.say("pushing")
		set, err := t.content()
		if err != nil {
			return err
		}
		for _, to := range t.fleet.Targets {
			if err := pushAll(ctx, to.URL, set.Images()); err != nil {
				return fmt.Errorf("pushing the images to %s: %w", t.name, err)
			}
		}
	}
	if t.Scenario.Warm && !target.Direct(t.name) {
		t.say("warming")
		return t.warm(ctx)
	}
	return nil
}

// The bounds of warming.
const (
	// warmPasses is how often everything is pulled at the most: a contender may
	// publish what it has a little after it was sent, and one that never keeps
	// anything is measured as it is.
	warmPasses = 5

	// warmLimit is for one pull of a pass, which nobody measures.
	warmLimit = 10 * time.Minute
)

// warm has every daemon pull every image until that costs the upstream nothing, from
// an upstream without limits.
func (t *turn) warm(ctx context.Context) error {
	free := loadtest.Line{Token: t.Scenario.Upstream.Token, CDN: t.Scenario.Upstream.CDN}
	for range warmPasses {
		if err := t.shape(free); err != nil {
			return err
		}
		m, err := t.pass().Run(ctx)
		if err != nil {
			return fmt.Errorf("warming: %w", err)
		}
		if len(m.Failures) > 0 {
			return fmt.Errorf("warming %s: %d pulls failed (%s), such as %s", t.name, m.Failures[0].Count, m.Failures[0].Kind, m.Failures[0].Examples[0])
		}
		if sent, err := t.settled(); err != nil || sent.Sent == 0 {
			return err
		}
	}
	return nil
}

// pass is one pull of every image by every daemon.
func (t *turn) pass() *loadtest.Storm {
	s := t.Scenario
	s.Clients, s.Arrivals, s.Timeout, s.Push = loadtest.Clients{Profile: "containerd"}, loadtest.Arrivals{}, warmLimit, false
	var jobs []loadtest.Job
	seen := map[loadtest.Job]bool{}
	for _, j := range t.warmup {
		for j.Daemon = range t.fleet.Targets {
			if !seen[j] {
				seen[j] = true
				jobs = append(jobs, j)
			}
		}
	}
	s.Clients.Count = len(jobs)
	return &loadtest.Storm{Scenario: s, Targets: t.fleet.Targets, Jobs: jobs, AllowRemote: t.Remote, Connections: warmConnections}
}

// warmConnections bounds the pulls of a pass: it is not the storm.
const warmConnections = 32
