package main

import (
	"bytes"
	"strings"
	"testing"
)

// loadtests runs registryd loadtest in this process and returns its exit status and
// all that it said.
func loadtests(t *testing.T, args ...string) (status int, said string) {
	t.Helper()
	var out bytes.Buffer
	cmd := command()
	cmd.SetArgs(append([]string{"loadtest"}, args...))
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(t.Context())
	if err == nil {
		return 0, out.String()
	}
	return statusOf(err), out.String() + err.Error()
}

// A daemon that lacks what it is for must not pass the gate. Each scenario of it is
// run, small, against one that lacks just that: it must fail, by the assertion that
// is about it. Against one that lacks nothing the same passes: 1 to 10 s each.
func TestGateFindsABrokenDaemon(t *testing.T) {
	for _, c := range []struct {
		name     string
		scenario string
		broken   func(t *testing.T, upstream string) string
		status   int
		want     string
	}{
		{"one fetch for each client", "cold-herd", forwarding, 1, "amplification<=1.01"},
		{"no ranges", "cold-range", func(t *testing.T, upstream string) string {
			return (&memory{upstream: upstream}).start(t)
		}, 1, "errors==0"},
		{"no deadline", "upstream-silent", func(t *testing.T, upstream string) string {
			return (&memory{upstream: upstream, ranges: true, confirm: true}).start(t)
		}, 1, "errors==0"},
		{"nothing is kept", "warm-burst", forwarding, 1, "amplification==0"},
		{"wrong bytes", "cold-herd", func(t *testing.T, upstream string) string {
			return (&memory{upstream: upstream, ranges: true, corrupt: flip}).start(t)
		}, exitWrong, "wrong bytes were served"},
		{"nothing is broken, cold", "cold-herd", func(t *testing.T, upstream string) string {
			return (&memory{upstream: upstream, ranges: true}).start(t)
		}, 0, ""},
		{"nothing is broken, ranges", "cold-range", func(t *testing.T, upstream string) string {
			return (&memory{upstream: upstream, ranges: true}).start(t)
		}, 0, ""},
		{"nothing is broken, silent", "upstream-silent", func(t *testing.T, upstream string) string {
			return (&memory{upstream: upstream, ranges: true}).start(t)
		}, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			upstream := unused(t)
			timeout := "2m" // on a machine that does much else
			if c.name == "no deadline" {
				timeout = "5s"
			}
			status, said := loadtests(t, "run", c.scenario, "--clients", "12", "--scale", "0.1", "--timeout", timeout, "--calibrate=false",
				"--upstream", upstream, "--target", c.broken(t, upstream))
			if status != c.status {
				t.Fatalf("exit status %d, want %d:\n%s", status, c.status, said)
			}
			if c.want != "" && !strings.Contains(brokenOnly(said), c.want) {
				t.Errorf("%q is not what failed:\n%s", c.want, said)
			}
			if keepsNothing := c.name == "nothing is kept"; strings.Contains(said, "was not warm") != keepsNothing {
				t.Errorf("warm or not, it was said otherwise:\n%s", said)
			}
		})
	}
}

// brokenOnly is what of a run's words says what is wrong: the last line.
func brokenOnly(said string) string {
	return said[strings.LastIndex(strings.TrimRight(said, "\n"), "\n")+1:]
}
