package images

import (
	"math"
	"math/rand/v2"

	"hostlocal/loadtest"
)

// The day of a registry, after IBM's traces (Anwar et al., FAST'18) and a replay of
// one of their days.
const (
	tracedZipf    = 1.14 // of images
	tracedBase    = 0.9  // of the bases under them
	tracedOneShot = 0.10
	tracedBump    = 0.05
	meanApps      = 4 // app layers above the first, exponentially distributed
	maxApps       = 12
)

// traced puts the traces' values where a mixed scenario has none of its own.
func traced(im loadtest.Images) loadtest.Images {
	or := func(v *float64, otherwise float64) {
		if *v == 0 {
			*v = otherwise
		}
	}
	or(&im.Zipf, tracedZipf)
	or(&im.OneShot, tracedOneShot)
	or(&im.Bump, tracedBump)
	return im
}

// mixed returns the layers of an image of the traces: one to twelve of its own on top
// of a real image, which it shares with others.
func (b *builder) mixed(id string) []layer {
	r := b.random("image " + id)
	base := bases[zipf(r, tracedBase, len(bases))()]
	var out []layer
	for _, l := range like(base, "base-"+base) {
		l.app = false
		out = append(out, l)
	}
	apps := min(maxApps, 1+int(r.ExpFloat64()*meanApps))
	for i := range apps {
		out = append(out, layer{key: own(id, i, 1), size: appSize(r), app: true})
	}
	return out
}

// sizes of app layers: most are tiny, a few have most of the bytes.
var sizes = []struct{ upTo, from, to float64 }{ // upTo is the share of layers up to here
	{0.50, 32, 10e3},
	{0.65, 10e3, 1e6},
	{0.80, 1e6, 10e6},
	{0.99, 10e6, 150e6},
	{1.00, 150e6, 2e9},
}

// appSize draws from sizes, log-uniformly within each.
func appSize(r *rand.Rand) int64 {
	u := r.Float64()
	i := 0
	for u >= sizes[i].upTo {
		i++
	}
	c := sizes[i]
	return int64(c.from * math.Pow(c.to/c.from, r.Float64()))
}
