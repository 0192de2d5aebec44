package lab

import (
	"context"
	"fmt"
	"time"

	"hostlocal/loadtest"
	"hostlocal/loadtest/target"
)

// prepare brings the contender to where the scenario begins. cold says why that is not
// quite where it should be, if it is not.
func (t *turn) prepare(ctx context.Context) (cold string, err error) {
	if t.Scenario.Push && target.TakesPushes(t.name) {
		t.say("pushing")
		set, err := t.content()
		if err != nil {
			return "", err
		}
		for _, to := range t.fleet.Targets {
			if err := pushAll(ctx, to.URL, set.Images()); err != nil {
				return "", fmt.Errorf("pushing the images to %s: %w", t.name, err)
			}
		}
	}
	if t.Scenario.Warm && !target.Direct(t.name) {
		t.say("warming")
		return t.warm(ctx)
	}
	return "", nil
}

// The bounds of warming.
const (
	// warmPasses is how often everything is pulled at the most. One that never keeps
	// anything is measured as it is, and the report says so.
	warmPasses = 6

	// warmPause is waited before the second pass, and twice as long before each
	// further one, 3 s in all: a contender may publish what it has a little after it
	// was sent, or keep nothing until it knows what its disk has.
	warmPause = 100 * time.Millisecond

	// warmLimit is for one pull of a pass, which nobody measures.
	warmLimit = 10 * time.Minute
)

// warm has every daemon pull every image until that costs the upstream nothing, from
// an upstream without limits. cold says what it still cost in the end.
func (t *turn) warm(ctx context.Context) (cold string, err error) {
	free := loadtest.Line{Token: t.Scenario.Upstream.Token, CDN: t.Scenario.Upstream.CDN}
	for n := range warmPasses {
		if err := t.shape(free); err != nil {
			return "", err
		}
		m, err := t.pass().Run(ctx)
		if err != nil {
			return "", fmt.Errorf("warming: %w", err)
		}
		if len(m.Failures) > 0 {
			return "", fmt.Errorf("warming %s: %d pulls failed (%s), such as %s", t.name, m.Failures[0].Count, m.Failures[0].Kind, m.Failures[0].Examples[0])
		}
		sent, err := t.settled()
		if err != nil || sent.Sent == 0 {
			return "", err
		}
		cold = fmt.Sprintf("pulled %d times, its images still cost the upstream %.1f of %.1f MiB; is the disk full, or the cache too small?",
			n+1, mib(sent.Sent), mib(m.Wanted))
		if n+1 == warmPasses {
			break
		}
		select {
		case <-time.After(warmPause << n):
		case <-ctx.Done():
			return "", fmt.Errorf("warming: %w", context.Cause(ctx))
		}
	}
	return cold, nil
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

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
