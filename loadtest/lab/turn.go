package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"hostlocal/loadtest"
	"hostlocal/loadtest/images"
	"hostlocal/loadtest/target"
)

// A turn is one contender under the load once, from its start to its end.
type turn struct {
	Experiment
	*world
	step
	at     Moment
	fleet  *target.Fleet
	bucket *bucketServer // nil: none
}

// run starts what the turn needs, measures, and takes it down. The fleet that it
// returns has been closed and is there for what it says of itself.
func (t *turn) run(ctx context.Context) (m loadtest.Measurement, about *target.Fleet, err error) {
	t.say("starting")
	if err := t.start(ctx); err != nil {
		return m, nil, errors.Join(err, t.close())
	}
	m, err = t.measure(ctx)
	if died := t.fleet.Err(); died != nil {
		err = died // whatever else went wrong came of it
	}
	return m, t.fleet, errors.Join(err, t.close())
}

func (t *turn) say(doing string) {
	t.at.Doing = doing
	t.at.Load = loadtest.Progress{}
	t.observe(t.at)
}

// start brings up the bucket and the contender.
func (t *turn) start(ctx context.Context) (err error) {
	s := t.Scenario
	if err := t.shape(s.Upstream); err != nil {
		return err
	}
	o := target.Options{
		Upstream: t.url(), Daemons: s.Daemons, Cache: int64(s.Cache), Blobs: t.Blobs,
		Binaries: t.Binaries, Dir: t.dir, Remote: t.Remote, Push: s.Push,
	}
	failing := len(images.Faults(s.Faults, "upstream")) > 0
	if s.Warm && failing {
		o.TagTTL = shortTTL
	}
	if t.bucket, err = t.openBucket(ctx); err != nil {
		return fmt.Errorf("starting the bucket: %w", err)
	}
	if t.bucket != nil {
		o.Bucket = t.bucket.of
	}
	if target.WantsFiles(t.name, s.Warm && !failing) {
		if o.Files, err = t.inPlace(); err != nil {
			return err
		}
	}
	if t.fleet, err = target.Start(ctx, t.name, o); err != nil {
		return err
	}
	if target.IsURL(t.name) {
		for i := range t.fleet.Targets {
			t.fleet.Targets[i].Namespace, t.fleet.Targets[i].Prefix = t.Namespace, t.Prefix
		}
	}
	return nil
}

// shortTTL is how long a tag is taken for confirmed where everything is warm and the
// upstream fails: with a TTL longer than the run nobody would ask it, and how a
// contender bears that would not be seen.
const shortTTL = time.Second

func (t *turn) close() error {
	var failed []error
	if t.fleet != nil {
		failed = append(failed, t.fleet.Close())
	}
	if t.bucket != nil {
		failed = append(failed, t.bucket.close())
	}
	return errors.Join(failed...)
}

// measure warms what the scenario wants warm, and then lets the storm loose with
// everything counted from its beginning.
func (t *turn) measure(ctx context.Context) (m loadtest.Measurement, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // a contender that ends takes the run with it; so does the run's end
		select {
		case <-t.fleet.Died():
			cancel()
		case <-ctx.Done():
		}
	}()
	cold, err := t.prepare(ctx)
	if err != nil {
		return m, err
	}
	if err := t.shape(t.Scenario.Upstream); err != nil {
		return m, err
	}
	if t.bucket != nil {
		t.bucket.forget()
	}
	var profiles *target.Profiles
	if t.Profiles != "" && t.round > 0 {
		profiles = t.fleet.Profile(t.Profiles, fmt.Sprintf("%s-%d", fileName(t.name), t.round))
	}
	stop, err := t.playFaults()
	if err != nil {
		return m, err
	}
	t.say("measuring")
	began, used := time.Now(), t.fleet.CPU()
	watch := t.fleet.Watch(began)
	m, err = t.storm().Run(ctx)
	usage := watch.Stop()
	m.Cold = cold
	if len(m.Failures) > 0 && t.fleet.Sampled() {
		t.mourn()
	}
	m.CPU = max(0, t.fleet.CPU()-used) // one that has ended has taken its clock along
	m.Usage = shifted(usage, m.Began.Sub(began))
	upstream, lost := t.settled()
	m.Upstream = upstream
	if t.bucket != nil {
		m.Bucket = t.bucket.traffic()
	}
	err = errors.Join(err, lost, stop())
	if profiles != nil {
		files, lost := profiles.Stop()
		m.Profiles, err = files, errors.Join(err, lost)
	}
	return m, err
}

// mournLimit bounds the wait for a process that clients know to be gone before the
// kernel says so.
const mournLimit = 250 * time.Millisecond

// mourn waits a moment for the end of a contender that did not serve everybody: it
// may have broken connections because it ended, and then that is what to say.
func (t *turn) mourn() {
	select {
	case <-t.fleet.Died():
	case <-time.After(mournLimit):
	}
}

// storm is the load, without a beginning.
func (t *turn) storm() *loadtest.Storm {
	s := &loadtest.Storm{
		Scenario: t.Scenario, Targets: t.fleet.Targets, Jobs: t.pulls(), AllowRemote: t.Remote,
		Progress: func(p loadtest.Progress) {
			t.at.Load = p
			t.observe(t.at)
		},
	}
	if t.round > 0 && t.Results != nil {
		attack := fmt.Sprintf("%s %s %d", t.Scenario.Name, t.name, t.round)
		s.Results = func(r *vegeta.Result) error {
			r.Attack = attack // by which vegeta's own commands tell turns apart
			return t.Results(r)
		}
	}
	if !target.IsURL(t.name) {
		s.TargetCPU = t.cpu
	}
	return s
}

// cpu is what the contender and the servers behind it have used: whatever else uses
// the cores has no part in this turn.
func (t *turn) cpu() time.Duration {
	sum := t.fleet.CPU()
	if t.upstream != nil {
		sum += target.CPUOf(t.upstream.process.PID())
	}
	if t.bucket != nil && t.bucket.server != nil {
		sum += target.CPUOf(t.bucket.server.PID())
	}
	return sum
}

// pulls are those of the scenario, spread over the targets that there are: a URL may be fewer
// hosts than the scenario has, or more.
func (t *turn) pulls() []loadtest.Job {
	jobs := slices.Clone(t.jobs)
	for i := range jobs {
		jobs[i].Daemon = i % len(t.fleet.Targets)
	}
	return jobs
}

// playFaults lets the scenario's faults happen from now on. Stop ends them.
func (t *turn) playFaults() (stop func() error, err error) {
	var stops []func() error
	stop = func() error {
		var failed []error
		for _, f := range stops {
			failed = append(failed, f())
		}
		return errors.Join(failed...)
	}
	if t.upstream != nil {
		end, err := t.upstream.play(t.Scenario.Faults)
		if err != nil {
			return nil, err
		}
		stops = append(stops, end)
	}
	if t.bucket != nil && t.bucket.proxy != nil {
		end, err := t.bucket.proxy.Play(images.Faults(t.Scenario.Faults, "bucket"))
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		stops = append(stops, end)
	}
	return stop, nil
}

// shifted counts samples from the measurement's beginning, which is a little after
// the watch's.
func shifted(all []loadtest.Usage, by time.Duration) []loadtest.Usage {
	for i := range all {
		all[i].At -= by
	}
	return all
}

// fileName makes a part of a file's name of a contender's.
func fileName(contender string) string {
	return filepath.Base(strings.NewReplacer("://", "-", ":", "-", ",", "-", "/", "-").Replace(contender))
}
