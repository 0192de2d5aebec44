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
	dir      string
	upstream *upstream // nil where the contenders have the images
	hub      *hub.Hub  // has the images too, and nobody asks it
	set      *images.Set
	files    *target.Files // nil until a contender wants them
}

// openWorld starts the upstream and makes the images.
func (e Experiment) openWorld(ctx context.Context, dir string) (w *world, err error) {
	w = &world{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.hub, err = hub.Start(); err != nil {
		return w, err
	}
	if w.set, err = images.Build(e.Scenario, w.hub); err != nil {
		return w, fmt.Errorf("making the images: %w", err)
	}
	if e.There {
		return w, ctx.Err()
	}
	listen := e.Upstream
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	w.upstream, err = e.startUpstream(ctx, dir, listen)
	return w, err
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
		f, err := writeFiles(filepath.Join(w.dir, "files"), w.set.Images())
		if err != nil {
			return nil, fmt.Errorf("putting the images in place: %w", err)
		}
		w.files = f
	}
	return w.files, nil
}
