// Package images makes the images of a load test's scenario in a fake hub, and the
// pulls of them. All follows from the scenario's seed: the same file pulls the same
// bytes in the same order on every machine. A blob is a seed and a size; only its
// digest has to be computed ahead, on all cores.
//
//	set, err := images.Build(scenario, hub)
//	jobs := set.Jobs()
//	... run them ...
//	amplification := float64(images.Traffic(hub).Sent) / float64(set.Wanted(jobs))
//
//	scenario ─> pulls of recipes ─> distinct layers, hashed ─> hub
//	            (popularity)        (sizes, sharing)
package images

import (
	"context"
	"fmt"

	"hostlocal/loadtest"
	"hostlocal/loadtest/hub"
	"hostlocal/manifest"
)

// Platform is the one that the pulls of a load test are of.
var Platform = manifest.Platform{OS: "linux", Architecture: "amd64"}

// platforms are those of an index: buildkit's usual two.
var platforms = []manifest.Platform{Platform, {OS: "linux", Architecture: "arm64", Variant: "v8"}}

// A Set is the images of a scenario, as they are in the hub.
type Set struct {
	images  []hub.Image
	pulls   []int // index in images, in order of due time
	daemons int
	byTag   map[string]int // of repo:tag
}

// Bounds of a scenario, each far above what one machine can run.
const (
	maxPulls  = 1 << 20
	maxImages = 1 << 20
	maxLayers = 1000
	maxScale  = 1e6
	// maxBytes bounds the distinct bytes that are hashed before the first pull:
	// some minutes' work.
	maxBytes = 1 << 40
)

// Build makes the scenario's images in h. There is one pull for each of
// Clients.Count; without any, one for each of Images.Count.
//
// Sharing of layers, unless Distinct says otherwise: images of Layers have the first
// one in common if there are several; images Like real ones have their base and
// empty layers in common where those do; Mixed images stand on real ones.
//
// A new version (Bump) of an image is a tag of its own, v2 after v1, as deploys make
// them: whoever pulls it later finds the newest. The upper half of its layers is new.
// An image that is pulled once only (OneShot) is beside those of Images.Count.
//
// Only images that somebody pulls are made. For Mixed, Zipf, OneShot and Bump that
// are zero mean the values of the traces: an exponent of 1.14, 10% and 5%.
func Build(s loadtest.Scenario, h *hub.Hub) (*Set, error) {
	return build(context.Background(), s, h)
}

func build(ctx context.Context, s loadtest.Scenario, h *hub.Hub) (*Set, error) {
	if err := check(s); err != nil {
		return nil, err
	}
	if s.Images.Mixed {
		s.Images = traced(s.Images)
	}
	b := &builder{images: s.Images, seed: s.Seed}
	recipes, pulls := b.draw(s.Clients.Count)
	contents, err := hashed(ctx, s.Seed, recipes, s.Images.Index)
	if err != nil {
		return nil, err
	}
	set := &Set{pulls: pulls, daemons: max(1, s.Daemons), byTag: map[string]int{}}
	for i, r := range recipes {
		img := contents.add(h, r, s.Images.Index)
		set.byTag[img.Name()] = i
		set.images = append(set.images, img)
	}
	return set, nil
}

func check(s loadtest.Scenario) error {
	im := s.Images
	ways := 0
	for _, given := range []bool{len(im.Layers) > 0, len(im.Like) > 0, im.Mixed} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		return fmt.Errorf("scenario %s: images need exactly one of layers, like and mixed", s.Name)
	case s.Clients.Count < 0 || s.Clients.Count > maxPulls:
		return fmt.Errorf("scenario %s: %d clients; there can be 0 to %d", s.Name, s.Clients.Count, maxPulls)
	case im.Count < 0 || im.Count > maxImages:
		return fmt.Errorf("scenario %s: %d images; there can be 0 to %d", s.Name, im.Count, maxImages)
	case len(im.Layers) > maxLayers:
		return fmt.Errorf("scenario %s: %d layers; an image can have %d", s.Name, len(im.Layers), maxLayers)
	case !(im.Scale >= 0 && im.Scale <= maxScale): // NaN too
		return fmt.Errorf("scenario %s: scale is %v; it can be 0 to %v", s.Name, im.Scale, float64(maxScale))
	}
	for _, n := range im.Layers {
		if n < 0 || n > maxBytes {
			return fmt.Errorf("scenario %s: a layer of %d bytes; there can be 0 to %d", s.Name, n, int64(maxBytes))
		}
	}
	for _, name := range im.Like {
		if _, ok := real[name]; !ok {
			return fmt.Errorf("scenario %s: no sizes are known of %q; there are %s", s.Name, name, Known())
		}
	}
	return nil
}

// Jobs returns the pulls in the order in which they are due; with several daemons
// they take turns.
func (s *Set) Jobs() []loadtest.Job {
	jobs := make([]loadtest.Job, len(s.pulls))
	for i, n := range s.pulls {
		jobs[i] = loadtest.Job{Repo: s.images[n].Repo, Tag: s.images[n].Tag, Daemon: i % s.daemons}
	}
	return jobs
}

// Warmup returns one pull of each image on each daemon that Jobs has it pulled from:
// after it nothing is cold.
func (s *Set) Warmup() []loadtest.Job {
	seen := map[loadtest.Job]bool{}
	var out []loadtest.Job
	for _, j := range s.Jobs() {
		if !seen[j] {
			seen[j] = true
			out = append(out, j)
		}
	}
	return out
}

// Images returns what was made in the hub.
func (s *Set) Images() []hub.Image { return s.images }

// Wanted returns how many bytes of distinct content the jobs need: indexes,
// manifests, configs and layers of Platform, each digest once however many pulls and
// daemons there are. Clients that leave early or read ranges get less.
func (s *Set) Wanted(jobs []loadtest.Job) int64 {
	seen := map[manifest.Digest]bool{}
	var sum int64
	once := func(d manifest.Digest, size int64) {
		if !seen[d] {
			seen[d] = true
			sum += size
		}
	}
	for _, j := range jobs {
		i, ok := s.byTag[j.Repo+":"+j.Tag]
		if !ok {
			continue
		}
		img := s.images[i]
		if !seen[img.Digest] {
			once(img.Digest, int64(len(img.Body)))
			if len(img.Images) > 0 {
				img = img.Images[0]
				once(img.Digest, int64(len(img.Body)))
			}
			once(img.Config.Digest, img.Config.Size)
			for _, l := range img.Layers {
				once(l.Digest, l.Size)
			}
		}
	}
	return sum
}
