package images

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// real are the layers of official images for linux/amd64, in compressed bytes, as
// they were on Docker Hub in mid 2026. The biggest layer is a third to nine tenths of
// an image. Equal first layers are the same one: redis and postgres of one week
// stand on one Debian.
var real = map[string][]int64{
	"alpine":          {3849738},
	"nginx":           {29780905, 33325076, 626, 955, 403, 1210, 1397},
	"redis":           {29830418, 1101, 824, 25639861, 97, 32, 2109},
	"postgres":        {29830418, 1167, 6443022, 1256766, 8203833, 1311722, 116, 3138, 115397538, 19418, 128, 6108, 186},
	"mysql":           {47931319, 885, 783541, 6193394, 2605, 339, 57457519, 324, 159975330, 5223},
	"mongo":           {29752807, 1215, 4184813, 1101906, 116, 261, 267652421, 5004},
	"rabbitmq":        {29735601, 46315772, 8994465, 9706, 28518713, 190, 109, 618, 831},
	"eclipse-temurin": {41602703, 394, 26432501, 53097833, 159, 2464},
	"golang":          {49312572, 25638468, 67792989, 102272980, 67288392, 127, 32},
	"python":          {49337828, 25639590, 67800074, 236338551, 6092327, 29758423, 250},
	"node":            {49317255, 25634938, 67778134, 236248824, 3329, 63411295, 446},
}

// bases are the same in the order of their popularity under Mixed images.
var bases = []string{"alpine", "nginx", "redis", "python", "node", "postgres", "golang", "eclipse-temurin", "mysql", "mongo", "rabbitmq"}

// emptyLayer is the size of the gzipped tar of nothing, a layer that is in almost
// every image.
const (
	emptyLayer = 32
	emptyKey   = "empty"
)

// Known names the real images that a scenario's `like` may have.
func Known() string { return strings.Join(slices.Sorted(maps.Keys(real)), ", ") }

// like returns the layers of one image like the named one; id is what is its own.
func like(name, id string) []layer {
	var out []layer
	for i, size := range real[name] {
		switch {
		case i == 0:
			out = append(out, layer{key: fmt.Sprintf("base/%d", size), size: size})
		case size == emptyLayer:
			out = append(out, layer{key: emptyKey, size: size})
		default:
			out = append(out, layer{key: own(id, i, 1), size: size, app: true})
		}
	}
	return out
}
