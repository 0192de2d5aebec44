package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"hostlocal/loadtest"
	"hostlocal/loadtest/hub"
	"hostlocal/loadtest/images"
	"hostlocal/loadtest/target"
)

// A world is what all turns have in common: the upstream and its images.
type world struct {
	scenario     loadtest.Scenario
	dir          string
	upstream     *upstream // nil where the contenders have the images
	jobs, warmup []loadtest.Job
	hub          *hub.Hub      // nil until the content is wanted here; nobody asks it
	set          *images.Set   // with the hub
	files        *target.Files // nil until a contender wants them
}

// openWorld starts the upstream, which makes the images.
func (e Experiment) openWorld(ctx context.Context, dir string) (*world, error) {
	w := &world{scenario: e.Scenario, dir: dir}
	if e.There {
		set, err := w.content()
		if err != nil {
			return nil, errors.Join(err, w.close())
		}
		w.jobs, w.warmup = set.Jobs(), set.Warmup()
		return w, ctx.Err()
	}
	listen := e.Upstream
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	u, err := e.startUpstream(ctx, dir, listen)
	if err != nil {
		return nil, err
	}
	w.upstream, w.jobs, w.warmup = u, jobsOf(u.Jobs), jobsOf(u.Warmup)
	return w, nil
}

func jobsOf(pulls []pull) []loadtest.Job {
	out := make([]loadtest.Job, len(pulls))
	for i, p := range pulls {
		out[i] = loadtest.Job{Repo: p.Repo, Tag: p.Tag, Daemon: p.Daemon}
	}
	return out
}

// content makes the images in this process too, once: whoever puts them somewhere
// needs their bytes.
func (w *world) content() (*images.Set, error) {
	if w.set != nil {
		return w.set, nil
	}
	var err error
	if w.hub, err = hub.Start(); err != nil {
		return nil, err
	}
	if w.set, err = images.Build(w.scenario, w.hub); err != nil {
		return nil, fmt.Errorf("making the images: %w", err)
	}
	return w.set, nil
}

func (w *world) close() error {
	var failed []error
	if w.upstream != nil {
		failed = append(failed, w.upstream.close())
	}
	if w.hub != nil {
		failed = append(failed, w.hub.Close())
	}
	return errors.Join(failed...)
}

// url is where contenders find the upstream.
func (w *world) url() string {
	if w.upstream == nil {
		return ""
	}
	return w.upstream.URL
}

// shape brings the upstream to how it is in good times: nothing counted, no limit
// used up.
func (w *world) shape(l loadtest.Line) error {
	if w.upstream == nil {
		return nil
	}
	return w.upstream.shape(l)
}

// settleLimit bounds the wait for what the upstream still sends though no client
// waits for it: it counts as sent, and a stalled upstream never ends.
const settleLimit = 2 * time.Second

// settled returns what the upstream was asked and sent, when it has come to rest;
// nothing at all where there is none.
func (w *world) settled() (loadtest.Traffic, error) {
	if w.upstream == nil {
		return loadtest.Traffic{}, nil
	}
	return w.upstream.settled(settleLimit)
}

// inPlace writes the content of all images to files, once.
func (w *world) inPlace() (*target.Files, error) {
	if w.files == nil {
		set, err := w.content()
		if err != nil {
			return nil, err
		}
		f, err := writeFiles(filepath.Join(w.dir, "files"), set.Images())
		if err != nil {
			return nil, fmt.Errorf("putting the images in place: %w", err)
		}
		w.files = f
	}
	return w.files, nil
}
