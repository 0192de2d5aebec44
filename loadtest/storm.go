package loadtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"hostlocal/manifest"
)

// A Target is one registry that clients pull from.
type Target struct {
	URL       string // http://127.0.0.1:5000, no slash at the end
	Namespace string // sent as ?ns= by the profiles that do so for a mirror; "" sends none
	Prefix    string // put before each repository's name: "hub.test/"
}

// A Job is one pull that is due.
type Job struct {
	Repo   string
	Tag    string          // or "" and
	Digest manifest.Digest // what is pulled by digest
	Daemon int             // index of the target
}

// A Storm carries a scenario's load out against targets that are there. Fill it and
// call Run, once.
type Storm struct {
	Scenario Scenario
	Targets  []Target
	Jobs     []Job  // one per pull, in the order in which they are due
	Seed     uint64 // of arrivals and of who is slow; 0 means the scenario's

	// Results is given each HTTP request, by one goroutine, as vegeta's commands
	// read it. An error of it ends the writing, not the run, and is Run's at the end.
	Results vegeta.Encoder

	// Progress is called about five times a second, by one goroutine, and once at
	// the end.
	Progress func(Progress)

	// AllowRemote lets connections leave this machine. Without it a name that leads
	// elsewhere, of a redirect or of a token server too, fails the pull.
	AllowRemote bool

	// Connections bounds the connections at once; 0 means as many as descriptors
	// allow. A target within this process takes as many descriptors again.
	Connections int

	// TargetCPU returns the CPU time that the targets' processes have used so far,
	// where that is known: it tells a target that is the bound from a tool that is.
	TargetCPU func() time.Duration
}

// A run is a Storm on its way.
type run struct {
	storm    *Storm
	seed     uint64
	began    time.Time
	bases    []*url.URL
	profiles []profile
	roles    []role
	platform manifest.Platform
	slots    *slots
	buffer   int // of each connection's socket, in bytes; 0 leaves it to the kernel
	rec      *recorder
	parsed   *manifest.Cache
	wanted   wanted
	spools   spools
	pulls    []Pull
	errs     []error
	claims   [][]claim
	wg       sync.WaitGroup

	due, running       atomic.Int64
	received, verified atomic.Int64
}

// A role is what sets a client apart from the others.
type role struct{ slow, leaves bool }

// defaultTimeout is how long a pull may take where the scenario does not say.
const defaultTimeout = 2 * time.Minute

// Run starts each pull when it is due and returns when the last has ended. An error
// without which there would be no measurement comes with a zero one. When ctx ends,
// the pulls under way end as "interrupted", the others do not begin, and the
// measurement of what there is comes with ctx's error; likewise one with the error
// of Results. Upstream, Bucket, Usage and CPU are left to the caller.
func (s *Storm) Run(ctx context.Context) (Measurement, error) {
	r, due, err := s.prepare()
	if err != nil {
		return Measurement{}, err
	}
	inner, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	defer context.AfterFunc(ctx, func() { stop(errInterrupted) })()

	load := measureLoad(s.TargetCPU)
	r.began = time.Now()
	ended := make(chan struct{})
	progress := make(chan struct{})
	go func() {
		defer close(progress)
		r.report(ended)
	}()
	pushed := make(chan error, 1)
	go func() {
		var err error
		if s.Scenario.Push {
			err = r.push(inner)
		}
		pushed <- err
	}()
	begun := r.dispatch(inner, due)
	r.wg.Wait()
	wall := time.Since(r.began)
	held := joinReasons(load.starved(), load.heldBack(wall))
	pushErr := <-pushed
	close(ended)
	<-progress
	close(r.rec.results)
	<-r.rec.done

	m := r.measurement(begun, pushErr)
	m.Wall = wall
	m.HeldBack = joinReasons(r.slots.heldBack(), lateness(m.Pulls), held)
	err = ctx.Err()
	if r.rec.lost != nil {
		err = errors.Join(err, fmt.Errorf("writing the results of requests: %w", r.rec.lost))
	}
	return m, err
}

// prepare checks what a Storm was given and works out everything that does not
// belong on the clock.
func (s *Storm) prepare() (*run, []time.Duration, error) {
	if err := s.Scenario.Check(); err != nil {
		return nil, nil, err
	}
	if len(s.Targets) == 0 || len(s.Jobs) == 0 || len(s.Jobs) > maxClients {
		return nil, nil, fmt.Errorf("a storm of %d pulls against %d targets; there must be one of each, and at most %d pulls", len(s.Jobs), len(s.Targets), maxClients)
	}
	seed := s.Seed
	if seed == 0 {
		seed = s.Scenario.Seed
	}
	n := len(s.Jobs)
	r := &run{
		storm: s, seed: seed, platform: manifest.Host(), slots: newSlots(s.Connections),
		parsed: manifest.NewCache(parsedManifests), roles: roles(s.Scenario.Clients, n, seed),
		pulls: make([]Pull, n), errs: make([]error, n), claims: make([][]claim, n),
	}
	r.wanted.of = map[manifest.Digest]*content{}
	r.spools.right, r.spools.busy = map[manifest.Digest][32]byte{}, map[manifest.Digest]bool{}
	for _, t := range s.Targets {
		u, err := url.Parse(t.URL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, nil, fmt.Errorf("%q is not a registry's URL; write one such as http://127.0.0.1:5000", t.URL)
		}
		u.Path = strings.TrimSuffix(u.Path, "/")
		r.bases = append(r.bases, u)
	}
	for _, name := range s.Scenario.Clients.profiles() {
		r.profiles = append(r.profiles, profiles[name])
	}
	r.buffer = receiveBuffer(min(n*atOnce(r.profiles), cap(r.slots.free)))
	for i, j := range s.Jobs {
		if j.Daemon < 0 || j.Daemon >= len(s.Targets) || !manifest.ValidRepository(j.Repo) || j.Digest.IsZero() && !manifest.ValidTag(j.Tag) {
			return nil, nil, fmt.Errorf("pull %d, of %q with tag %q from target %d, is not one that can be made", i, j.Repo, j.Tag, j.Daemon)
		}
	}
	due, err := s.Scenario.Arrivals.Due(n, seed)
	if err != nil {
		return nil, nil, err
	}
	r.rec = newRecorder(s.Scenario.Name, s.Results)
	return r, due, nil
}

// parsedManifests bounds the parsed manifests that clients share, in bytes.
const parsedManifests = 32 << 20

// roles draws who is slow and who leaves: different clients, as far as there are
// enough.
func roles(c Clients, n int, seed uint64) []role {
	all := make([]role, n)
	order := rand.New(rand.NewPCG(seed, 0x401e)).Perm(n)
	slow := c.Slow
	if slow == 0 && c.Rate > 0 {
		slow = n
	}
	for i := range min(slow, n) {
		all[order[i]].slow = true
	}
	for i := range min(c.Leave, n) {
		all[order[n-1-i]].leaves = true
	}
	return all
}

// dispatch begins each pull at its time, whatever became of those before, and
// returns how many it began.
func (r *run) dispatch(ctx context.Context, due []time.Duration) int {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i, at := range due {
		if wait := at - time.Since(r.began); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return i
		}
		r.due.Add(1)
		r.running.Add(1)
		r.wg.Go(func() { r.one(ctx, i, at) })
	}
	return len(due)
}

// one is the pull of job i.
func (r *run) one(ctx context.Context, i int, due time.Duration) {
	s := r.storm
	start := time.Since(r.began)
	ctx, cancel := context.WithCancelCause(ctx)
	timer := r.timeout(cancel)
	job := s.Jobs[i]
	c := &client{
		run: r, profile: r.profiles[i%len(r.profiles)], id: i, job: job, target: s.Targets[job.Daemon], base: r.bases[job.Daemon],
		random: rand.New(rand.NewPCG(r.seed, uint64(i))), ctx: ctx, cancel: cancel,
		verify: s.Scenario.Clients.Sample <= 1 || i%s.Scenario.Clients.Sample == 0,
	}
	c.idle = make(chan *conn, c.profile.connections())
	c.leave.Store(stays)
	if r.roles[i].slow {
		c.pace = &pace{rate: int64(s.Scenario.Clients.Rate)}
	}
	err := c.pull()
	end := time.Since(r.began)
	c.closeIdle()
	timer.Stop()

	p := Pull{
		Client: i, Daemon: job.Daemon, Image: job.name(), Due: due, Start: start, End: end,
		FirstByte: time.Duration(c.first.Load()), Bytes: c.bytes.Load(), Requests: int(c.requests.Load()),
	}
	if err != nil {
		var f *failure
		if cause := context.Cause(ctx); errors.As(cause, &f) {
			err = cause // what ended the others, rather than how they ended
		}
		p.Left = errors.Is(context.Cause(ctx), errLeft)
		if !p.Left {
			p.Failure = kindOf(ctx, err)
			r.errs[i] = err
		}
	}
	cancel(nil)
	r.pulls[i], r.claims[i] = p, c.claims
	r.running.Add(-1)
	r.rec.pulls <- p
}

// timeout ends what cancel is of when a pull's time is over.
func (r *run) timeout(cancel context.CancelCauseFunc) *time.Timer {
	d := r.storm.Scenario.Timeout
	if d == 0 {
		d = defaultTimeout
	}
	return time.AfterFunc(d, func() { cancel(errTimeout) })
}

// connections is how many a client may have at once.
func (p profile) connections() int {
	if p.from {
		return maxAtOnce
	}
	return p.layers + 1
}

// atOnce is the most of them.
func atOnce(all []profile) int {
	most := 0
	for _, p := range all {
		most = max(most, p.connections())
	}
	return most
}

func (c *client) leaves() bool { return c.roles[c.id].leaves }

func (r *run) record(x result) { r.rec.results <- x }

func (j Job) name() string {
	if j.Tag == "" {
		return j.Repo + "@" + j.Digest.String()
	}
	return j.Repo + ":" + j.Tag
}

// measurement sums up the pulls that were begun.
func (r *run) measurement(begun int, pushErr error) Measurement {
	m := Measurement{Began: r.began, Pulls: r.pulls[:begun], Wanted: r.wanted.sum(), Received: r.received.Load(), Verified: r.verified.Load()}
	var waits, firsts []time.Duration
	for i := range m.Pulls {
		p := &m.Pulls[i]
		verified, wrong := r.spools.judge(r.claims[i])
		m.Verified += verified
		if wrong != nil && p.Failure == "" {
			p.Failure = "wrong digest"
			r.errs[i] = failed(p.Failure, "%d bytes, got in ranges, of %s are not what another client got and checked", wrong.size, wrong.digest)
		}
		if p.Failure != "" {
			r.rec.fail(p.Failure, fmt.Sprintf("client %d, %s: %v", p.Client, p.Image, r.errs[i]))
			continue
		}
		if p.FirstByte > 0 {
			firsts = append(firsts, p.FirstByte)
		}
		if !p.Left {
			waits = append(waits, p.Wait())
		}
	}
	if pushErr != nil {
		r.rec.fail("push: "+kindOf(context.Background(), pushErr), pushErr.Error())
	}
	m.Wait, m.FirstByte = QuantilesOf(waits), QuantilesOf(firsts)
	r.rec.into(&m)
	return m
}
