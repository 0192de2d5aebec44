package manifest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
)

// A graph is a registry of made-up manifests, under the names that tests use.
type graph struct {
	t     testing.TB
	byDgt map[Digest]*Manifest
	names map[Digest]string
	got   []string // what Walk asked for
	seen  []string // what Walk visited
}

func newGraph(t testing.TB) *graph {
	return &graph{t: t, byDgt: map[Digest]*Manifest{}, names: map[Digest]string{}}
}

// blob is a descriptor of a made-up layer or config.
func (g *graph) blob(name string) Descriptor {
	d := DigestOf([]byte(name))
	g.names[d] = name
	return Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: d, Size: int64(len(name))}
}

// image adds a manifest with a config and layers of its own, and returns the
// entry for it.
func (g *graph) image(name, platform string, layers ...string) Descriptor {
	m := map[string]any{"schemaVersion": 2, "mediaType": OCIManifest, "config": g.blob(name + ".config")}
	var list []Descriptor
	for _, l := range layers {
		list = append(list, g.blob(l))
	}
	m["layers"] = list
	return g.add(name, platform, m)
}

func (g *graph) index(name string, entries ...Descriptor) Descriptor {
	return g.add(name, "", map[string]any{"schemaVersion": 2, "mediaType": OCIIndex, "manifests": entries})
}

func (g *graph) add(name, platform string, v any) Descriptor {
	body, err := json.Marshal(v)
	if err != nil {
		g.t.Fatal(err)
	}
	m, err := Parse(body)
	if err != nil {
		g.t.Fatal(err)
	}
	g.byDgt[m.Digest], g.names[m.Digest] = m, name
	d := m.Descriptor()
	if platform != "" {
		p := mustPlatform(g.t, platform)
		d.Platform = &p
	}
	return d
}

func (g *graph) get(_ context.Context, d Descriptor) (*Manifest, error) {
	g.got = append(g.got, g.names[d.Digest])
	m, ok := g.byDgt[d.Digest]
	if !ok {
		return nil, fmt.Errorf("%s: %w", d.Digest, fs.ErrNotExist)
	}
	return m, nil
}

func (g *graph) visit(d Descriptor, m *Manifest) error {
	if (m != nil) != (g.byDgt[d.Digest] != nil) {
		g.t.Errorf("%s visited with manifest %v", g.names[d.Digest], m)
	}
	g.seen = append(g.seen, g.names[d.Digest])
	return nil
}

func (g *graph) walk(root Descriptor, o WalkOptions) error {
	g.got, g.seen = nil, nil
	return Walk(context.Background(), root, g.get, g.visit, o)
}

func (g *graph) wantVisited(root Descriptor, o WalkOptions, want string) {
	g.t.Helper()
	if err := g.walk(root, o); err != nil {
		g.t.Error(err)
	}
	if got := strings.Join(g.seen, " "); got != want {
		g.t.Errorf("platforms %v: visited %s\nwant %s", o.Platforms, got, want)
	}
}

func platforms(t testing.TB, list ...string) WalkOptions {
	var o WalkOptions
	for _, s := range list {
		o.Platforms = append(o.Platforms, mustPlatform(t, s))
	}
	return o
}

func TestWalkVisitsWhatThePlatformsNeedOnce(t *testing.T) {
	g := newGraph(t)
	amd := g.image("amd", "linux/amd64", "base", "a")
	v7 := g.image("v7", "linux/arm/v7", "base", "b")
	v6 := g.image("v6", "linux/arm/v6", "b", "b")
	about := g.image("about", "unknown/unknown", "sbom")
	root := g.index("root", amd, v7, v6, about, amd)

	g.wantVisited(root, platforms(t, "linux/amd64"), "root amd amd.config base a")
	g.wantVisited(root, platforms(t, "linux/arm64"), "root v7 v7.config base b")
	g.wantVisited(root, platforms(t, "linux/arm/v6"), "root v6 v6.config b")
	g.wantVisited(root, platforms(t, "linux/arm/v7", "linux/amd64", "linux/arm64"), "root v7 v7.config base b amd amd.config a")
	g.wantVisited(root, WalkOptions{}, "root amd amd.config base a v7 v7.config b v6 v6.config")
	o := platforms(t, "linux/amd64")
	o.Attestations = true
	g.wantVisited(root, o, "root about about.config sbom amd amd.config base a")
	// A platform that is missing is not missed where another is there.
	g.wantVisited(root, platforms(t, "linux/s390x", "linux/amd64"), "root amd amd.config base a")
	// An image that is no index is what it is.
	g.wantVisited(amd, platforms(t, "linux/s390x"), "amd amd.config base a")
}

func TestWalkSaysWhatAnIndexHasInstead(t *testing.T) {
	g := newGraph(t)
	about := g.image("about", "unknown/unknown", "sbom")
	root := g.index("root", g.image("amd", "linux/amd64", "a"), about)
	o := platforms(t, "linux/s390x")
	o.Attestations = true
	if err := g.walk(root, o); !errors.Is(err, ErrNoPlatform) || !strings.Contains(err.Error(), "linux/amd64") || !strings.Contains(err.Error(), "linux/s390x") {
		t.Errorf("got %v", err)
	}
	if err := g.walk(g.index("empty"), platforms(t, "linux/s390x")); !errors.Is(err, ErrNoPlatform) {
		t.Errorf("an empty index: %v", err)
	}
	g.wantVisited(g.index("empty"), WalkOptions{}, "empty")
}

func TestWalkFollowsIndexesInIndexes(t *testing.T) {
	g := newGraph(t)
	arm := g.image("arm", "linux/arm64", "b")
	inner := g.index("inner", g.image("amd", "linux/amd64", "a"), arm)
	chart := Descriptor{MediaType: "application/x-chart", Digest: g.blob("chart").Digest, Size: 5}
	root := g.index("root", inner, chart)
	g.wantVisited(root, platforms(t, "linux/arm64"), "root inner arm arm.config b chart")
	g.wantVisited(root, WalkOptions{}, "root inner amd amd.config a arm arm.config b chart")
	// Where an entry says that it fits, those that say nothing are left alone.
	g.wantVisited(g.index("both", inner, arm), platforms(t, "linux/arm64"), "both arm arm.config b")
}

func TestWalkIsBounded(t *testing.T) {
	g := newGraph(t)
	deep := g.image("image", "", "a", "b", "c")
	for i := range 3 {
		deep = g.index(fmt.Sprint("level", i), deep)
	}
	if err := g.walk(deep, WalkOptions{}); err != nil {
		t.Error(err)
	}
	if err := g.walk(g.index("level3", deep), WalkOptions{}); !errors.Is(err, ErrWalk) || len(g.got) != DefaultDepth {
		t.Errorf("one level more: %v after %q", err, g.got)
	}
	if err := g.walk(deep, WalkOptions{MaxManifests: 3}); !errors.Is(err, ErrWalk) || len(g.got) != 3 {
		t.Errorf("too many manifests: %v after %q", err, g.got)
	}
	if err := g.walk(deep, WalkOptions{MaxCount: 7}); !errors.Is(err, ErrWalk) || len(g.seen) != 7 {
		t.Errorf("too many descriptors: %v after %q", err, g.seen)
	}
	if err := g.walk(deep, WalkOptions{MaxManifests: 4, MaxCount: 8}); err != nil {
		t.Errorf("exactly as many as may be: %v", err)
	}
}

// Hashes make cycles impossible, but get is somebody else's.
func TestWalkSurvivesCycles(t *testing.T) {
	g := newGraph(t)
	a, b := g.index("a"), g.index("b", g.image("image", "", "x"))
	g.byDgt[a.Digest].Manifests = []Descriptor{a, b}
	g.byDgt[b.Digest].Manifests = append(g.byDgt[b.Digest].Manifests, a, b)
	g.wantVisited(a, WalkOptions{}, "a b image image.config x")
}

func TestWalkStopsWhereItIsTold(t *testing.T) {
	g := newGraph(t)
	root := g.index("root", g.image("amd", "linux/amd64", "a"), g.image("arm", "linux/arm64", "b"))
	stop := errors.New("stop")
	for at, want := range map[string]string{"root": "root", "amd": "root amd", "a": "root amd amd.config a"} {
		var seen []string
		visit := func(with error) func(Descriptor, *Manifest) error {
			seen = nil
			return func(d Descriptor, _ *Manifest) error {
				seen = append(seen, g.names[d.Digest])
				if g.names[d.Digest] == at {
					return with
				}
				return nil
			}
		}
		if err := Walk(t.Context(), root, g.get, visit(stop), WalkOptions{}); err != stop || strings.Join(seen, " ") != want {
			t.Errorf("at %s: %v, visited %q", at, err, seen)
		}
		if at != "amd" {
			continue
		}
		if err := Walk(t.Context(), root, g.get, visit(fs.SkipDir), WalkOptions{}); err != nil || !slices.Equal(seen, []string{"root", "amd", "arm", "arm.config", "b"}) {
			t.Errorf("skipping %s: %v, visited %q", at, err, seen)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Walk(ctx, root, g.get, g.visit, WalkOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	delete(g.byDgt, root.Digest)
	if err := g.walk(root, WalkOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("root is gone: %v", err)
	}
}

func TestWalkRefusesAnotherManifest(t *testing.T) {
	g := newGraph(t)
	a, b := g.index("a"), g.image("b", "")
	g.byDgt[a.Digest] = g.byDgt[b.Digest]
	if err := g.walk(a, WalkOptions{}); !errors.Is(err, ErrMismatch) || len(g.seen) != 0 {
		t.Errorf("got %v, visited %q", err, g.seen)
	}
}
