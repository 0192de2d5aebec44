package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"hostlocal/loadtest"
	"hostlocal/loadtest/hub"
	"hostlocal/loadtest/images"
	"hostlocal/loadtest/target"
)

// A world is what all turns have in common: the upstream and its images.
type world struct {
	dir   string
	hub   *hub.Hub // nil where the contenders have the images
	set   *images.Set
	files *target.Files // nil until a contender wants them
}

// openWorld starts the upstream and makes the images. Where the contenders have
// them already, an upstream that nobody asks says which there are.
func (e Experiment) openWorld(ctx context.Context, dir string) (*world, error) {
	listen := e.Upstream
	if listen == "" || e.There {
		listen = "127.0.0.1:0"
	}
	h, err := hub.Start(hub.Listen(listen), hub.Shaped(images.Shape(e.Scenario.Upstream)))
	if err != nil {
		return nil, fmt.Errorf("starting the fake upstream: %w", err)
	}
	w := &world{dir: dir, hub: h}
	if w.set, err = images.Build(e.Scenario, h); err != nil {
		return nil, errors.Join(fmt.Errorf("making the images: %w", err), w.close())
	}
	return w, ctx.Err()
}

func (w *world) close() error { return w.hub.Close() }

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

// reset brings the upstream back to how it was: nothing counted, no limit used up.
func (w *world) reset(s loadtest.Scenario) {
	w.hub.SetShape(images.Shape(s.Upstream))
	w.hub.Forget()
}
