package loadtest

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestScenariosThatComeWithTheTool(t *testing.T) {
	want := strings.Fields("cold-herd cold-range fleet mixed-day push-while-pull rolling-deploy slow-clients soak upstream-limit upstream-silent upstream-stall warm-burst")
	var got []string
	for _, s := range Scenarios() {
		got = append(got, s.Name)
		if len(s.Description) < 80 || strings.Contains(s.Description, "\n") || len(s.Assert) == 0 || s.Seed == 0 {
			t.Errorf("%s: %+v", s.Name, s)
		}
		for _, share := range []float64{1, 0.01} {
			small := s.With(10, share)
			if err := small.Check(); err != nil {
				t.Errorf("%s with 10 clients: %v", s.Name, err)
			}
			if _, err := small.Arrivals.Due(10, 1); err != nil {
				t.Error(err)
			}
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
	s, ok := Named("cold-herd")
	sum := Size(0)
	for _, l := range s.Images.Layers {
		sum += l
	}
	if !ok || s.Clients.Count != 100 || sum != 24<<20 {
		t.Errorf("cold-herd is %+v", s)
	}
	if _, ok := Named("cold-hurd"); ok {
		t.Error("cold-hurd exists")
	}
	if text, ok := Source("fleet"); !ok || !strings.Contains(string(text), "daemons: 4") {
		t.Errorf("fleet's file: %q", text)
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	s, err := Parse("dir/own.yaml", []byte(`
description: |
  All of it.
seed: 18446744073709551615
images: {count: 2, layers: [1.5MiB, 32, 2MB], scale: 0.5, zipf: 1.1, one_shot: 0.1, bump: 0.05, index: true, distinct: true}
clients: {count: 10, profile: "lazy, podman", rate: 64KiB, slow: 2, leave: 1, sample: 3}
arrivals: {pace: waves, over: 2s, waves: 3, every: 150ms}
upstream: {latency: 20ms, connection_rate: 12MiB, total_rate: 1GiB, token: true, cdn: true, pulls: 100}
bucket: {kind: minio, latency: 5ms, connection_rate: 85MiB}
daemons: 3
cache: 1GiB
warm: true
faults:
  - {at: 1s, for: 2s, on: bucket, kind: status, value: 503}
  - kind: cut
    value: 5242880
timeout: 1m
assert: ["errors==0", "wall/wall(nginx) <= 1.3", "amplification<amplification(direct)"]
push: true
`))
	want := Scenario{
		Name: "own", Description: "All of it.", Seed: 1<<64 - 1,
		Images:   Images{Count: 2, Layers: []Size{3 << 19, 32, 2e6}, Scale: 0.5, Zipf: 1.1, OneShot: 0.1, Bump: 0.05, Index: true, Distinct: true},
		Clients:  Clients{Count: 10, Profile: "lazy, podman", Rate: 64 << 10, Slow: 2, Leave: 1, Sample: 3},
		Arrivals: Arrivals{Pace: "waves", Over: 2 * time.Second, Waves: 3, Every: 150 * time.Millisecond},
		Upstream: Line{Latency: 20 * time.Millisecond, ConnectionRate: 12 << 20, TotalRate: 1 << 30, Token: true, CDN: true, Pulls: 100},
		Bucket:   Bucket{Kind: "minio", Line: Line{Latency: 5 * time.Millisecond, ConnectionRate: 85 << 20}},
		Daemons:  3, Cache: 1 << 30, Warm: true, Timeout: time.Minute, Push: true,
		Assert: []string{"errors==0", "wall/wall(nginx) <= 1.3", "amplification<amplification(direct)"},
		Faults: []Fault{{time.Second, 2 * time.Second, "bucket", "status", 503}, {Kind: "cut", Value: 5 << 20}},
	}
	if err != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("%v\n%+v, not\n%+v", err, s, want)
	}
	b, err := json.Marshal(s)
	var back Scenario
	if err != nil || json.Unmarshal(b, &back) != nil || !reflect.DeepEqual(back, s) {
		t.Errorf("through JSON: %v %s", err, b)
	}
}

func TestEveryProblemIsNamedWithItsLine(t *testing.T) {
	_, err := Parse("own.yaml", []byte(`
name: Own Scenario
imags: {layers: [24MiB]}
images:
  layers: [24MiB, 10 bananas, 0]
  zipf: .nan
clients:
  count: 0
  profil: docker
  profile: containrd
  slow: 4
  rate: 5 KiB
arrivals: {pace: constant}
upstream: 5ms
bucket: {kind: s3, token: true}
timeout: 20
faults: [{kind: status, value: 200}, {kind: stall, at: -1s, value: 3}, {}]
assert: [p99, "errors==0"]
warm: perhaps
seed: -1
daemons: [1]
cache: &c 5
`))
	if !errors.Is(err, ErrScenario) {
		t.Fatalf("error %v", err)
	}
	for _, want := range []string{
		"own.yaml has 23 problems:\n",
		"line 2: name: \"Own Scenario\" is not a name",
		`line 3: unknown key "imags"; did you mean "images"?`,
		`line 5: images.layers[1]: "10 bananas" is not a size`,
		"line 5: images.layers[2]: is 0, and must be between 1 and 64GiB",
		`line 6: images.zipf: ".nan" is not a number`,
		"line 8: clients.count: is 0, and must be between 1 and 100000",
		`line 9: unknown key "clients.profil"; did you mean "clients.profile"?`,
		`line 10: clients.profile: "containrd" is not known; did you mean "containerd"?`,
		"line 11: clients.slow: is 4, and must be between 0 and 0",
		"line 13: arrivals.over: is missing",
		"line 14: upstream holds keys of its own",
		`line 15: bucket.kind: "s3" is not known; write one of none, folder, minio, versitygw`,
		"line 15: bucket: token, cdn and pulls are an upstream's",
		`line 16: timeout: "20" is not a duration; write it with a unit, such as 2s`,
		"line 17: faults[0].value: is 200, and must be between 400 and 599",
		"line 17: faults[1].at: is -1s",
		"line 17: faults[1].value: says nothing for stall",
		"line 17: faults[2].kind: is missing",
		`line 18: assert[0]: "p99" is not an assertion`,
		`line 19: warm: "perhaps" is not true or false`,
		`line 20: seed: "-1" is not a whole number that is not negative`,
		"line 21: daemons: takes one value, not a list",
		"line 22: cache: YAML anchors",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not said: %s", want)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}

func TestFilesThatAreNoScenario(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "images: says its sizes 0 times",
		"- a\n- b\n":                        "line 1: a scenario is keys with values",
		"a: [":                              "line 1: ",
		"seed: 1\nseed: 2\n":                "line 2: ",
		"seed: 1\n---\nseed: 2\n":           "a second document starts here",
		"images: {like: [redis, windows]}":  `images.like[1]: "windows" is not known`,
		"images: {like: [''], mixed: true}": "says its sizes 2 times",
		"5: 1\n":                            "is not a plain key",
		"images: {mixed: true, zipf: NaN}":  "images.zipf: is NaN, and must be between 0 and 5",
		"seed:\n":                           "seed: is empty",
		strings.Repeat("#", 70<<10):         "is larger than",
	} {
		if _, err := Parse("x.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v, not %q", text, err, want)
		}
	}
}

// FuzzParse: what Parse takes is right by Check, and what a person gets to read has
// a line or names the whole file.
func FuzzParse(f *testing.F) {
	for _, s := range Scenarios() {
		text, _ := Source(s.Name)
		f.Add(text)
	}
	f.Add([]byte("images: {layers: [1]}\nclients: {count: 5}\narrivals: {pace: trace, over: 1h}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse("f.yaml", text)
		if err != nil {
			if !errors.Is(err, ErrScenario) || !strings.HasPrefix(err.Error(), "f.yaml has ") {
				t.Errorf("error %v", err)
			}
			return
		}
		if err := s.Check(); err != nil {
			t.Error(err)
		}
		if _, err := json.Marshal(s); err != nil {
			t.Error(err)
		}
		n := min(s.Clients.Count, 1000)
		due, err := s.With(n, 0.1).Arrivals.Due(n, s.Seed)
		if err != nil || len(due) != n || due[0] != 0 {
			t.Errorf("%v: %v", due, err)
		}
	})
}
