package images

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sort"

	"hostlocal/loadtest"
)

// A recipe is an image before its layers have digests.
type recipe struct {
	repo, tag string
	layers    []layer
}

// A layer is known by its key: equal keys are the same bytes.
type layer struct {
	key  string
	size int64
	app  bool // may be renewed by a new version
}

func own(id string, layer, version int) string { return fmt.Sprintf("%s/%d/v%d", id, layer, version) }

// A builder makes the recipes of a scenario.
type builder struct {
	images  loadtest.Images
	seed    uint64
	recipes []recipe
}

// random returns the source of one decision's numbers, so that one image does not
// depend on how many came before it.
func (b *builder) random(what string) *rand.Rand {
	return rand.New(rand.NewPCG(b.seed, seedOf(b.seed, what)))
}

// draw returns which images there are and who pulls which, by popularity.
func (b *builder) draw(pulls int) ([]recipe, []int) {
	im := b.images
	count := max(1, im.Count)
	if pulls == 0 {
		pulls = count
	}
	r := b.random("pulls")
	pick := turns(count)
	if im.Zipf > 0 {
		pick = zipf(r, im.Zipf, count)
	}
	newest := map[int]int{} // by number of the image: the index of its recipe
	version := map[int]int{}
	order := make([]int, 0, pulls)
	for once := 0; len(order) < pulls; {
		if im.OneShot > 0 && r.Float64() < im.OneShot {
			once++
			order = append(order, b.add("once", once))
			continue
		}
		n := pick()
		i, pulled := newest[n]
		switch {
		case !pulled:
			i = b.add("app", n+1)
			version[n] = 1
		case im.Bump > 0 && r.Float64() < im.Bump:
			version[n]++
			i = b.bump(i, version[n])
		}
		newest[n] = i
		order = append(order, i)
	}
	return b.recipes, order
}

// turns picks 0, 1, ... n-1, 0, 1, ...
func turns(n int) func() int {
	i := -1
	return func() int {
		i++
		return i % n
	}
}

// zipf picks k of 0 to n-1 with a weight of 1/(k+1)^exponent.
func zipf(r *rand.Rand, exponent float64, n int) func() int {
	upTo := make([]float64, n)
	sum := 0.0
	for k := range upTo {
		sum += math.Pow(float64(k+1), -exponent)
		upTo[k] = sum
	}
	return func() int {
		return min(n-1, sort.SearchFloat64s(upTo, r.Float64()*sum))
	}
}

// add makes the recipe of the nth image of a kind and returns its index.
func (b *builder) add(kind string, n int) int {
	id := fmt.Sprintf("%s-%d", kind, n)
	im := b.images
	var layers []layer
	switch {
	case im.Mixed:
		layers = b.mixed(id)
	case len(im.Like) > 0:
		name := im.Like[(n-1)%len(im.Like)]
		id = fmt.Sprintf("%s-%s", name, id)
		layers = like(name, id)
	default:
		for i, size := range im.Layers {
			l := layer{key: own(id, i, 1), size: int64(size), app: true}
			if i == 0 && len(im.Layers) > 1 {
				l.key, l.app = "first", false
			}
			layers = append(layers, l)
		}
	}
	for i := range layers {
		layers[i].size = scaled(layers[i].size, im.Scale)
		if im.Distinct {
			layers[i].key = own(id, i, 1)
		}
	}
	b.recipes = append(b.recipes, recipe{repo: "storm/" + id, tag: "v1", layers: layers})
	return len(b.recipes) - 1
}

// bump makes a new version of a recipe: of its app layers the upper half is new, one
// at least.
func (b *builder) bump(of, version int) int {
	old := b.recipes[of]
	r := recipe{repo: old.repo, tag: fmt.Sprintf("v%d", version), layers: append([]layer(nil), old.layers...)}
	apps := 0
	for _, l := range r.layers {
		if l.app {
			apps++
		}
	}
	for i, left := len(r.layers)-1, (apps+1)/2; i >= 0; i-- {
		if b.images.Distinct || r.layers[i].app && left > 0 {
			r.layers[i].key = own(r.repo, i, version)
			left--
		}
	}
	b.recipes = append(b.recipes, r)
	return len(b.recipes) - 1
}

// scaled applies a scenario's scale to what is worth it: layers above 1 MiB.
func scaled(size int64, by float64) int64 {
	if by == 0 || size <= 1<<20 {
		return size
	}
	return int64(float64(size) * by)
}
