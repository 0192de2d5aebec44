package images

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"hostlocal/loadtest/hub"
	"hostlocal/manifest"
)

// seedOf returns the seed of what key names in a scenario of this seed.
func seedOf(seed uint64, key string) uint64 {
	h := manifest.SHA256.New()
	binary.Write(h, binary.LittleEndian, seed)
	h.Write([]byte(key))
	return binary.LittleEndian.Uint64(h.Sum(nil))
}

// contents are the distinct layers of a set, by key and platform.
type contents map[string]hub.Content

func (c contents) of(r recipe, p manifest.Platform) []hub.Content {
	out := make([]hub.Content, len(r.layers))
	for i, l := range r.layers {
		out[i] = c[keyOn(l, p)]
	}
	return out
}

// keyOn is a layer's key on a platform; an empty layer is the same on all.
func keyOn(l layer, p manifest.Platform) string {
	if l.key == emptyKey {
		return l.key
	}
	return fmt.Sprintf("%s@%s/%s", l.key, p.Architecture, p.Variant)
}

// add puts the image of a recipe into the hub.
func (c contents) add(h *hub.Hub, r recipe, index bool) hub.Image {
	if !index {
		return h.AddImage(r.repo, r.tag, c.of(r, Platform)...)
	}
	all := make([][]hub.Content, len(platforms))
	for i, p := range platforms {
		all[i] = c.of(r, p)
	}
	return h.AddPlatforms(r.repo, r.tag, platforms, all)
}

// hashed computes the digests of all layers, on all cores and the largest first, so
// that none is left to a single core at the end.
func hashed(ctx context.Context, seed uint64, recipes []recipe, index bool) (contents, error) {
	on := platforms[:1]
	if index {
		on = platforms
	}
	size := map[string]int64{}
	var sum int64
	for _, r := range recipes {
		for _, l := range r.layers {
			for _, p := range on {
				key := keyOn(l, p)
				if _, known := size[key]; !known {
					size[key] = l.size
					sum += l.size
				}
				if l.size > maxBytes || sum > maxBytes {
					return nil, fmt.Errorf("the images have more than %d bytes of layers, all of which would have to be hashed first; lower images.scale or images.count", int64(maxBytes))
				}
			}
		}
	}
	keys := slices.SortedFunc(maps.Keys(size), func(a, b string) int {
		return cmp.Or(cmp.Compare(size[b], size[a]), cmp.Compare(a, b))
	})
	made := make([]hub.Content, len(keys))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, key := range keys {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			made[i] = hub.Generated(seedOf(seed, key), size[key])
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out := contents{}
	for i, key := range keys {
		out[key] = made[i]
	}
	return out, nil
}
