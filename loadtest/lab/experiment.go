// Package lab carries out whole experiments: it brings up the fake upstream, the
// bucket and the contenders of a scenario, lets the storm loose on each of them in
// turn, and brings home what was measured, behind the upstream's sockets and in the
// contenders' processes too.
//
// Every contender meets the same upstream, the same images and the same load in the
// same order; each turn begins with a contender that was never started before, with
// an empty cache and an empty bucket. With several contenders a round gives each one
// its turn, in an order that is drawn anew for each round, so that whatever else the
// machine does hits all alike, and the first round does not count.
//
//	Experiment ─ rounds ─ turns ─┬─ upstream, images   (one for all turns)
//	                             ├─ bucket, contender  (new for each turn)
//	                             └─ warm, faults, Storm ──> Measurement
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"hostlocal/loadtest"
	"hostlocal/loadtest/target"
)

// An Experiment is one scenario on one contender or several.
type Experiment struct {
	Scenario   loadtest.Scenario
	Contenders []string          // kinds of package target, or URLs
	Rounds     int               // that count; 0 means 1. With more than one, or several contenders, one more is discarded
	Binaries   map[string]string // by contender, or minio and versitygw: a path instead of what is found
	Remote     bool              // load may leave this host
	Upstream   string            // host:port at which the fake upstream listens, for URLs that have it as theirs; "" is any free port
	There      bool              // the contenders, all URLs, have the images already: no upstream is started
	Namespace  string            // what URLs are told with ?ns=
	Prefix     string            // what URLs want before each repository's name
	Blobs      int               // tiny blobs in the cache before the start; see target.Options
	Profiles   string            // folder for profiles of the contenders; "" means none
	Results    vegeta.Encoder    // is given each request of the rounds that count
	Observe    func(Moment)      // is called when something new happens, and while load runs
	Dir        string            // where temporary folders are made; "" is the system's

	single           bool // one round, which counts
	steps, stepsDone int  // of a ladder
}

// A Moment is how an experiment stands.
type Moment struct {
	Contender   string
	Doing       string // "starting", "warming", "measuring"
	Round       int    // from 1; 0 is the one that does not count
	Turn, Turns int    // from 1, of all
	Load        loadtest.Progress
}

// ErrInterrupted is what an experiment ends with that was told to; its report has
// what there was until then.
var ErrInterrupted = errors.New("interrupted")

// Run carries the experiment out. The report has what was measured also when there
// is an error: ErrInterrupted when ctx ended, those of packages target and child for
// a contender, and others for a fault of the laboratory's own. Version, Command,
// Tool and Verdicts are left to the caller.
func (e Experiment) Run(ctx context.Context) (loadtest.Report, error) {
	report := loadtest.Report{Machine: thisMachine(), Started: time.Now(), Scenario: e.Scenario}
	for _, name := range e.Contenders {
		report.Contenders = append(report.Contenders, loadtest.Contender{Name: name})
	}
	err := e.run(ctx, &report)
	if err != nil && ctx.Err() != nil {
		err = ErrInterrupted
	}
	if err != nil {
		report.Ended, _, _ = strings.Cut(err.Error(), "\n")
	}
	report.Wall = time.Since(report.Started)
	return report, err
}

func (e Experiment) run(ctx context.Context, report *loadtest.Report) (err error) {
	if err := e.Check(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(e.Dir, "loadtest-lab-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w, err := e.openWorld(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()

	plan := e.plan()
	for i, t := range plan {
		turn := turn{Experiment: e, world: w, step: t, at: Moment{
			Contender: t.name, Round: t.round,
			Turn: e.stepsDone*len(plan) + i + 1, Turns: max(1, e.steps) * len(plan),
		}}
		m, about, err := turn.run(ctx)
		c := &report.Contenders[t.contender]
		if about != nil {
			c.Version, c.Settings = about.Version, about.Settings
		}
		// What an interrupted turn has measured is worth showing; a warm-up is not.
		if t.round > 0 && len(m.Pulls) > 0 {
			c.Rounds = append(c.Rounds, m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Check finds what cannot be before anything is started. Run does it too.
func (e Experiment) Check() error {
	if err := e.Scenario.Check(); err != nil {
		return err
	}
	if len(e.Contenders) == 0 {
		return fmt.Errorf("%w: none was named", target.ErrUnknown)
	}
	for i, name := range e.Contenders {
		if slices.Contains(e.Contenders[:i], name) {
			return fmt.Errorf("%w %q: it is named twice; use more rounds to see how much one contender differs from itself", target.ErrUnable, name)
		}
		if err := target.Known(name, e.Binaries); err != nil {
			return err
		}
		url := target.IsURL(name)
		switch {
		case e.There && !url:
			return fmt.Errorf("%s %w: it is started empty, so the images cannot be there", name, target.ErrUnable)
		case url && e.Upstream == "" && !e.There:
			return fmt.Errorf("%s %w yet: say with --upstream HOST:PORT where it expects its upstream, which is then served there, or with --images-there that it has the scenario's images", name, target.ErrUnable)
		case url && e.Scenario.Bucket.Kind != "" && e.Scenario.Bucket.Kind != "none":
			return fmt.Errorf("%s %w: the scenario brings a bucket, and what runs already has its own", name, target.ErrUnable)
		}
	}
	return nil
}

// warmUp reports whether a round comes first that does not count.
func (e Experiment) warmUp() bool { return !e.single && (e.Rounds > 1 || len(e.Contenders) > 1) }

// observe tells how things stand to whoever wants to know.
func (e Experiment) observe(m Moment) {
	if e.Observe != nil {
		e.Observe(m)
	}
}
