package report

import (
	"strings"
	"testing"
	"time"

	"hostlocal/loadtest"
)

// served is a round in which so many pulls took one second, and others ended
// otherwise.
func served(wall time.Duration, whole, failed, left int, upstream int64) loadtest.Measurement {
	m := loadtest.Measurement{Wall: wall, Wanted: 1000, Upstream: loadtest.Traffic{Requests: map[string]int{}, Sent: upstream}}
	for range whole {
		m.Pulls = append(m.Pulls, loadtest.Pull{End: time.Second})
	}
	for range failed {
		m.Pulls = append(m.Pulls, loadtest.Pull{End: 9 * time.Second, Failure: "status 503"})
	}
	for range left {
		m.Pulls = append(m.Pulls, loadtest.Pull{End: 9 * time.Second, Left: true})
	}
	return m
}

func TestHeadlinesSayWhatCameOut(t *testing.T) {
	one := func(name string, ms ...loadtest.Measurement) loadtest.Contender {
		return loadtest.Contender{Name: name, Rounds: ms}
	}
	s := time.Second
	unasked := served(3*s, 2, 0, 0, 0)
	unasked.Upstream.Requests, unasked.Wanted = nil, 0
	for _, c := range []struct {
		report loadtest.Report
		want   []string
	}{
		{loadtest.Report{}, []string{"Nothing was measured."}},
		{loadtest.Report{Contenders: []loadtest.Contender{one("x")}}, []string{"Nothing was measured."}},
		{loadtest.Report{Contenders: []loadtest.Contender{one("x", served(3*s, 100, 0, 0, 1000))}}, []string{"x served 100 clients in 3.00 s; the upstream sent 1.00 bytes for each byte wanted."}},
		{loadtest.Report{Contenders: []loadtest.Contender{one("x", served(3*s, 1, 0, 0, 0))}}, []string{"x served 1 client in 3.00 s; the upstream sent nothing."}},
		{loadtest.Report{Contenders: []loadtest.Contender{one("x", unasked)}}, []string{"x served 2 clients in 3.00 s; what the upstream sent was not measured."}},
		{loadtest.Report{Contenders: []loadtest.Contender{one("x", served(3*s, 88, 12, 0, 1014))}}, []string{"x served 88 of 100 clients in 3.00 s; 12 failed, mostly with status 503; the upstream sent 1.01 bytes for each byte wanted."}},
		{loadtest.Report{Contenders: []loadtest.Contender{one("x", served(3*s, 0, 5, 0, 1000))}}, []string{"x served none of 5 clients (status 503); the upstream sent 1.00 bytes for each byte wanted."}},
		{loadtest.Report{Contenders: []loadtest.Contender{one("x", served(3*s, 90, 0, 10, 1000))}}, []string{"x served 90 clients in 3.00 s, not counting 10 that hung up as they were told; the upstream sent 1.00 bytes for each byte wanted."}},
		{loadtest.Report{Ended: "interrupted", Scenario: loadtest.Scenario{Clients: loadtest.Clients{Count: 100}}, Contenders: []loadtest.Contender{one("x", served(3*s, 3, 0, 0, 1000))}},
			[]string{"x had served 3 of 100 clients after 3.00 s when it ended early; the upstream sent 1.00 bytes for each byte wanted."}},
		{loadtest.Report{Contenders: []loadtest.Contender{
			one("x", served(3*s, 9, 0, 0, 1000), served(4*s, 9, 0, 0, 1000), served(5*s, 9, 0, 0, 1000)),
			one("slow", served(36*s, 9, 0, 0, 98600), served(40*s, 8, 1, 0, 98600), served(44*s, 9, 0, 0, 98600)),
			one("same", served(2*s, 9, 0, 0, 0), served(4*s, 9, 0, 0, 0), served(6*s, 9, 0, 0, 0)),
			one("none"),
		}}, []string{
			"x served 9 clients in 4.00 s; the upstream sent 1.00 bytes for each byte wanted.",
			"slow: 40.0 s (10.0×), 98.6 bytes from the upstream for each wanted, 1 of 9 pulls failed.",
			"same: 4.00 s (1.00×, within the noise).",
			"none: no round.",
		}},
	} {
		got := strings.ReplaceAll(strings.Join(headline(c.report), "\n"), "\u00a0", " ")
		if want := strings.Join(c.want, "\n"); got != want {
			t.Errorf("said\n%s\nand not\n%s", got, want)
		}
	}
}

// TestWhoHungUpDidNotWait: clients that leave because the scenario has it so are
// in no wait, no count of failures, and in the table by themselves.
func TestWhoHungUpDidNotWait(t *testing.T) {
	c := loadtest.Contender{Name: "x", Rounds: []loadtest.Measurement{served(9*time.Second, 5, 0, 3, 0)}}
	cs := curves([]loadtest.Contender{c}, pullWait)
	if len(cs) != 1 || len(cs[0].sorted) != 5 || cs[0].max() != 1 {
		t.Errorf("the waits are %+v", cs)
	}
	if done := pullsDone(&c.Rounds[0]); done[len(done)-1].y != 5 {
		t.Errorf("done are %v", done)
	}
	m := &c.Rounds[0]
	if mustColumn("left").of(m) != 3 || mustColumn("failed").of(m) != 0 || mustColumn("errors").of(m) != 0 {
		t.Error("the columns count them otherwise")
	}
}
