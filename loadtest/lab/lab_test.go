package lab

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"hostlocal/loadtest"
	"hostlocal/loadtest/child"
	"hostlocal/loadtest/target"
)

// TestMain lets the test's own binary be the upstream of its experiments.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[2] == UpstreamCommand {
		if err := ServeUpstream(); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

func herd(t *testing.T) loadtest.Scenario {
	t.Helper()
	s, ok := loadtest.Named("cold-herd")
	if !ok {
		t.Fatal("there is no cold-herd")
	}
	return s
}

func TestEveryRoundGivesEachContenderItsTurn(t *testing.T) {
	e := Experiment{Scenario: herd(t), Contenders: []string{"a", "b", "c"}, Rounds: 20}
	steps := e.plan()
	if again := e.plan(); !reflect.DeepEqual(steps, again) {
		t.Error("the same seed gave another order")
	}
	if len(steps) != 21*3 {
		t.Fatalf("%d turns, want 20 rounds of three and one that does not count", len(steps))
	}
	orders := map[string]bool{}
	for round := range 21 {
		order, seen := "", map[string]bool{}
		for _, s := range steps[3*round : 3*round+3] {
			if s.round != round || e.Contenders[s.contender] != s.name {
				t.Errorf("turn %+v in round %d", s, round)
			}
			order += s.name
			seen[s.name] = true
		}
		if len(seen) != 3 {
			t.Errorf("round %d has the order %s", round, order)
		}
		orders[order] = true
	}
	if len(orders) < 4 {
		t.Errorf("only %d different orders in 21 rounds", len(orders))
	}
}

func TestOneTurnAloneCounts(t *testing.T) {
	e := Experiment{Scenario: herd(t), Contenders: []string{"a"}}
	if got := fmt.Sprint(e.plan()); got != "[{0 a 1}]" {
		t.Errorf("got %s", got)
	}
	e.Rounds = 2
	if got := fmt.Sprint(e.plan()); got != "[{0 a 0} {0 a 1} {0 a 2}]" {
		t.Errorf("with rounds: %s", got)
	}
}

func TestExperimentsThatCannotBe(t *testing.T) {
	fleet, ok := loadtest.Named("fleet")
	if !ok {
		t.Fatal("there is no fleet")
	}
	for _, c := range []struct {
		e    Experiment
		want error
		word string
	}{
		{Experiment{}, loadtest.ErrScenario, ""},
		{Experiment{Scenario: herd(t)}, target.ErrUnknown, "none"},
		{Experiment{Scenario: herd(t), Contenders: []string{"nginxx"}}, target.ErrUnknown, "nginx-static"},
		{Experiment{Scenario: herd(t), Contenders: []string{"direct", "direct"}}, target.ErrUnable, "twice"},
		{Experiment{Scenario: herd(t), Contenders: []string{"direct"}, There: true}, target.ErrUnable, "empty"},
		{Experiment{Scenario: herd(t), Contenders: []string{"http://127.0.0.1:1"}}, target.ErrUnable, "--upstream"},
		{Experiment{Scenario: fleet, Contenders: []string{"http://127.0.0.1:1"}, There: true}, target.ErrUnable, "bucket"},
		{Experiment{Scenario: herd(t), Contenders: []string{"zot"}, Binaries: map[string]string{"zot": "/nowhere"}}, child.ErrBinary, "zot"},
	} {
		r, err := c.e.Run(t.Context())
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%v: %v, want %v with %q", c.e.Contenders, err, c.want, c.word)
		}
		if r.Ended == "" {
			t.Errorf("%v: the report does not say that it ended early", c.e.Contenders)
		}
	}
}

// An upstream that cannot be, because its address is taken, is a fault of the
// laboratory and not of the contender.
func TestUpstreamWhoseAddressIsTaken(t *testing.T) {
	w, err := Experiment{Scenario: herd(t).With(1, 0.01)}.openWorld(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	at := strings.TrimPrefix(w.upstream.URL, "http://")
	e := Experiment{Scenario: herd(t).With(1, 0.01), Contenders: []string{"http://" + at}, Upstream: at}
	if _, err := e.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "fake upstream") {
		t.Errorf("got %v", err)
	}
}

// An upstream that ends is the laboratory's fault, and says what it said last.
func TestUpstreamThatEndsIsTold(t *testing.T) {
	w, err := Experiment{Scenario: herd(t).With(1, 0.01)}.openWorld(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	if err := w.shape(loadtest.Line{}); err != nil {
		t.Error(err)
	}
	w.upstream.process.Stop()
	if err := w.shape(loadtest.Line{}); err == nil || !strings.Contains(err.Error(), "the fake upstream") {
		t.Errorf("got %v", err)
	}
	if _, err := w.settled(); err == nil {
		t.Error("traffic of an upstream that is gone")
	}
}

func TestLadderRaisesOneQuantity(t *testing.T) {
	e := Experiment{Scenario: herd(t)}
	for of, check := range map[string]func(Experiment) bool{
		OfClients: func(e Experiment) bool { return e.Scenario.Clients.Count == 7 },
		OfBlobs:   func(e Experiment) bool { return e.Blobs == 7 },
		OfSize: func(e Experiment) bool {
			return len(e.Scenario.Images.Layers) == 1 && e.Scenario.Images.Layers[0] == 7
		},
	} {
		at, err := e.at(of, 7)
		if err != nil || !check(at) {
			t.Errorf("%s: %+v, %v", of, at.Scenario, err)
		}
		if len(Steps(of)) == 0 {
			t.Errorf("%s has no steps", of)
		}
	}
	if _, err := e.at("hosts", 7); err == nil {
		t.Error("a ladder of hosts was taken")
	}
}
