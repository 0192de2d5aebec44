package images

import (
	"context"
	"io"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"hostlocal/loadtest"
	"hostlocal/loadtest/hub"
	"hostlocal/manifest"
)

// built makes a scenario's images in a hub of its own.
func built(t *testing.T, im loadtest.Images, pulls int) (*Set, *hub.Hub) {
	t.Helper()
	h, err := hub.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	set, err := Build(loadtest.Scenario{Name: "test", Seed: 5, Clients: loadtest.Clients{Count: pulls}, Images: im}, h)
	if err != nil {
		t.Fatal(err)
	}
	return set, h
}

// recipesOf draws without hashing.
func recipesOf(im loadtest.Images, seed uint64, pulls int) ([]recipe, []int) {
	if im.Mixed {
		im = traced(im)
	}
	b := &builder{images: im, seed: seed}
	return b.draw(pulls)
}

func sizesOf(img hub.Image) (out []int64) {
	for _, l := range img.Layers {
		out = append(out, l.Size)
	}
	return out
}

func TestExplicitLayersShareTheFirst(t *testing.T) {
	im := loadtest.Images{Count: 3, Layers: []loadtest.Size{4 << 20, 1000, 2 << 20}, Scale: 0.25}
	set, _ := built(t, im, 7)
	if n := len(set.images); n != 3 {
		t.Fatalf("%d images", n)
	}
	a, b := set.images[0], set.images[1]
	if want := []int64{1 << 20, 1000, 512 << 10}; !slices.Equal(sizesOf(a), want) {
		t.Errorf("layers of %v bytes, not %v", sizesOf(a), want)
	}
	if a.Layers[0].Digest != b.Layers[0].Digest || a.Layers[1].Digest == b.Layers[1].Digest {
		t.Error("not the first layer alone is in common")
	}
	var tags []string
	for _, j := range set.Jobs() {
		tags = append(tags, j.Repo+":"+j.Tag)
	}
	if want := []string{"storm/app-1:v1", "storm/app-2:v1", "storm/app-3:v1", "storm/app-1:v1", "storm/app-2:v1", "storm/app-3:v1", "storm/app-1:v1"}; !slices.Equal(tags, want) {
		t.Errorf("pulls of %v", tags)
	}
	im.Distinct = true
	set, _ = built(t, im, 0)
	if a, b := set.images[0], set.images[1]; len(set.images) != 3 || a.Layers[0].Digest == b.Layers[0].Digest {
		t.Error("distinct images have a layer in common")
	}
}

func TestImagesAreLikeRealOnes(t *testing.T) {
	set, _ := built(t, loadtest.Images{Count: 4, Like: []string{"redis", "postgres"}, Scale: 0.01}, 4)
	redis, postgres, redis2 := set.images[0], set.images[1], set.images[2]
	if want := []int64{298304, 1101, 824, 256398, 97, 32, 2109}; !slices.Equal(sizesOf(redis), want) {
		t.Errorf("redis has layers of %v", sizesOf(redis))
	}
	if len(postgres.Layers) != 13 || postgres.Layers[0].Digest != redis.Layers[0].Digest {
		t.Error("redis and postgres have no base in common")
	}
	if redis2.Layers[5].Digest != redis.Layers[5].Digest || redis2.Layers[3].Digest == redis.Layers[3].Digest {
		t.Error("two images like redis: the empty layer is the same, the large one is not")
	}
	for name, layers := range real {
		if !slices.Contains(bases, name) || len(layers) == 0 {
			t.Errorf("%s is not among the bases", name)
		}
	}
}

// TestWantedIsWhatAPullCosts pulls everything, as a client of the platform does, and
// compares with what the hub counts.
func TestWantedIsWhatAPullCosts(t *testing.T) {
	for name, im := range map[string]loadtest.Images{
		"plain": {Count: 3, Layers: []loadtest.Size{100_000, 20, 3000}},
		"index": {Count: 2, Like: []string{"redis"}, Scale: 0.001, Index: true},
		"mixed": {Count: 10, Mixed: true, Scale: 0.0001},
	} {
		t.Run(name, func(t *testing.T) {
			set, h := built(t, im, 12)
			have := map[manifest.Digest]bool{}
			get := func(repo, what string, d manifest.Digest) []byte {
				if have[d] {
					return nil
				}
				have[d] = true
				resp, err := http.Get(h.URL + "/v2/" + repo + "/" + what + "/" + d.String())
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				if err != nil || d.Verify(b) != nil {
					t.Fatalf("%s of %s: %d, %d bytes, %v", d, repo, resp.StatusCode, len(b), err)
				}
				return b
			}
			for _, j := range set.Jobs() {
				i := slices.IndexFunc(set.Images(), func(i hub.Image) bool { return i.Repo == j.Repo && i.Tag == j.Tag })
				img := set.Images()[i]
				get(img.Repo, "manifests", img.Digest)
				if im.Index {
					if len(img.Images) != 2 || len(img.Attests) != 2 || img.Images[0].Platform.String() != Platform.String() {
						t.Fatalf("an index of %d images, %d attestations, %v first", len(img.Images), len(img.Attests), img.Images[0].Platform)
					}
					img = img.Images[0]
					get(img.Repo, "manifests", img.Digest)
				}
				get(img.Repo, "blobs", img.Config.Digest)
				for _, l := range img.Layers {
					get(img.Repo, "blobs", l.Digest)
				}
			}
			http.DefaultClient.CloseIdleConnections()
			if err := h.WaitIdle(t.Context()); err != nil {
				t.Fatal(err)
			}
			if wanted, sent := set.Wanted(set.Jobs()), Traffic(h).Sent; wanted != sent {
				t.Errorf("wanted %d bytes, and a client of all images got %d", wanted, sent)
			}
			if once := set.Wanted(append(set.Jobs(), set.Warmup()...)); once != set.Wanted(set.Jobs()) {
				t.Errorf("pulling twice wants %d bytes", once)
			}
			if none := set.Wanted([]loadtest.Job{{Repo: "storm/none", Tag: "v1"}}); none != 0 {
				t.Errorf("an unknown image wants %d bytes", none)
			}
		})
	}
}

func TestASeedMakesTheSameDay(t *testing.T) {
	im := loadtest.Images{Count: 50, Mixed: true}
	a, pullsA := recipesOf(im, 1, 1000)
	b, pullsB := recipesOf(im, 1, 1000)
	if !reflect.DeepEqual(a, b) || !slices.Equal(pullsA, pullsB) {
		t.Error("one seed made two days")
	}
	if _, other := recipesOf(im, 2, 1000); slices.Equal(pullsA, other) {
		t.Error("two seeds made one day")
	}
	if x, y := seedOf(1, "a"), seedOf(2, "a"); x == y || x == seedOf(1, "b") {
		t.Error("seeds of different layers are equal")
	}
}

// TestMixedDayIsAsInTheTraces compares shares of 20,000 pulls with what they are
// drawn from.
func TestMixedDayIsAsInTheTraces(t *testing.T) {
	const pulls, count = 20_000, 500
	recipes, order := recipesOf(loadtest.Images{Count: count, Mixed: true}, 9, pulls)
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 0.1*want {
			t.Errorf("%s: %.3f, not about %.3f", what, got, want)
		}
	}
	once, byRepo, versions := 0, map[string]int{}, 0
	for _, i := range order {
		byRepo[recipes[i].repo]++
		if strings.HasPrefix(recipes[i].repo, "storm/once-") {
			once++
		}
	}
	for _, r := range recipes {
		if r.tag != "v1" {
			versions++
		}
	}
	near("one-shot pulls", float64(once)/pulls, 0.10)
	near("new versions of repeated pulls", float64(versions)/float64(pulls-once), 0.05)
	sum := 0.0
	for k := range count {
		sum += math.Pow(float64(k+1), -1.14)
	}
	near("pulls of the most popular", float64(byRepo["storm/app-1"])/float64(pulls-once), 1/sum)

	apps, small, images := 0, 0, 0
	for _, r := range recipes {
		if r.tag != "v1" {
			continue
		}
		images++
		for _, l := range r.layers {
			if l.app {
				apps++
				if l.size < 1e6 {
					small++
				}
				if l.size < 32 || l.size > 2e9 {
					t.Fatalf("a layer of %d bytes", l.size)
				}
			}
		}
	}
	near("app layers below 1 MB", float64(small)/float64(apps), 0.65)
	// 1 + floor(Exp(4)), cut at 12, has this mean: the sum of exp(-k/4) for k of 1 to 11, and 1.
	mean := 1.0
	for k := 1; k < maxApps; k++ {
		mean += math.Exp(-float64(k) / meanApps)
	}
	near("app layers of an image", float64(apps)/float64(images), mean)
}

func TestANewVersionRenewsTheUpperHalf(t *testing.T) {
	b := &builder{images: loadtest.Images{Layers: []loadtest.Size{1, 2, 3, 4, 5, 6}}}

	first := b.add("app", 1)
	second := b.bump(first, 2)
	v1 := b.recipes[first : first+1]
	var renewed []bool
	for i, l := range b.recipes[second].layers {
		renewed = append(renewed, l.key != v1[0].layers[i].key)
	}
	if want := []bool{false, false, false, true, true, true}; !slices.Equal(renewed, want) {
		t.Errorf("renewed %v, not %v", renewed, want)
	}
	if r := b.recipes[second]; r.repo != v1[0].repo || r.tag != "v2" {
		t.Errorf("the new version is %s:%s", r.repo, r.tag)
	}
}

func TestDaemonsTakeTurns(t *testing.T) {
	h, err := hub.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	set, err := Build(loadtest.Scenario{Daemons: 3, Clients: loadtest.Clients{Count: 7}, Images: loadtest.Images{Layers: []loadtest.Size{10}}}, h)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, j := range set.Jobs() {
		got = append(got, j.Daemon)
	}
	if !slices.Equal(got, []int{0, 1, 2, 0, 1, 2, 0}) || len(set.Warmup()) != 3 {
		t.Errorf("daemons %v; %d pulls warm them up", got, len(set.Warmup()))
	}
}

func TestWrongScenariosAreRefused(t *testing.T) {
	h, err := hub.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	one := []loadtest.Size{1}
	for want, s := range map[string]loadtest.Scenario{
		"exactly one":        {},
		"exactly one of":     {Images: loadtest.Images{Layers: one, Mixed: true}},
		`"oracle"`:           {Images: loadtest.Images{Like: []string{"oracle"}}},
		"scale is -1":        {Images: loadtest.Images{Layers: one, Scale: -1}},
		"scale is NaN":       {Images: loadtest.Images{Layers: one, Scale: math.NaN()}},
		"a layer of -1":      {Images: loadtest.Images{Layers: []loadtest.Size{-1}}},
		"clients":            {Images: loadtest.Images{Layers: one}, Clients: loadtest.Clients{Count: 1 << 30}},
		"images;":            {Images: loadtest.Images{Layers: one, Count: -1}},
		"lower images.scale": {Images: loadtest.Images{Layers: []loadtest.Size{maxBytes, maxBytes}}},
	} {
		if _, err := Build(s, h); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want a message with %q: %v", want, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := build(ctx, loadtest.Scenario{Images: loadtest.Images{Layers: one}}, h); err != context.Canceled {
		t.Errorf("building after ctrl-C: %v", err)
	}
}
