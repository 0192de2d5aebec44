package main

import (
	"bufio"
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"hostlocal/cmd/testdeps/need"
	"hostlocal/loadtest"
	loadreport "hostlocal/loadtest/report"
)

// programPath is the path of a program that TestMain knows.
func programPath(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	check(t, err)
	return path
}

// Every scenario that comes with the tool runs, tiny, against the daemon, and its
// own assertions hold. Those of a bucket need its server. All at once, since
// most of their time is waiting: 15 s.
func TestEveryScenarioRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("twelve storms")
	}
	for _, s := range loadtest.Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "r.json")
			args := []string{"run", s.Name, "--clients", "10", "--scale", "0.05", "--calibrate=false", "--json", file}
			if s.Bucket.Kind == "minio" {
				args = append(args, "--bin", "minio="+need.Binary(t, "minio"))
			}
			args = append(args, "--target", "registryd", "--bin", "registryd="+programPath(t, "registryd"))
			if status, said := loadtests(t, args...); status != 0 {
				t.Fatalf("exit status %d:\n%s", status, said)
			}
			r := readReport(t, file)
			m := r.Contenders[0].Rounds[0]
			if len(m.Pulls) != 10 || m.CPU == 0 || len(m.Usage) < 2 || r.Contenders[0].Version == "unknown" {
				t.Errorf("%d pulls, CPU %v, %d samples, version %q", len(m.Pulls), m.CPU, len(m.Usage), r.Contenders[0].Version)
			}
			if (m.Bucket.Requests != nil) != (s.Name == "fleet") {
				t.Errorf("requests to the bucket: %v", m.Bucket.Requests)
			}
		})
	}
}

func readReport(t *testing.T, file string) loadtest.Report {
	t.Helper()
	f, err := os.Open(file)
	check(t, err)
	defer f.Close()
	r, err := loadreport.ReadJSON(f)
	check(t, err)
	return r
}

// A comparison is interleaved, and the round that does not count is not in it: 2 s.
func TestComparisonHasItsRounds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "r.json")
	status, said := loadtests(t, "run", "warm-burst", "--clients", "5", "--compare", "registryd,direct", "--rounds", "2",
		"--calibrate=false", "--bin", "registryd="+programPath(t, "registryd"), "--json", file, "--assert", "errors==0", "--assert", "amplification<amplification(direct)")
	if status != 0 {
		t.Fatalf("exit status %d:\n%s", status, said)
	}
	r := readReport(t, file)
	for i, name := range []string{"registryd", "direct"} {
		if c := r.Contenders[i]; c.Name != name || len(c.Rounds) != 2 {
			t.Errorf("contender %d is %s with %d rounds", i, c.Name, len(c.Rounds))
		}
	}
	if n := strings.Count(said, "starting"); n != 6 {
		t.Errorf("%d turns, want 3 rounds of 2:\n%s", n, said)
	}
}

// Every contender that is started serves the scenario right, whatever it costs its
// upstream: 5 s.
func TestContendersServe(t *testing.T) {
	registry := need.Binary(t, "registry")
	need.Binary(t, "nginx")
	for scenario, contenders := range map[string]string{
		"cold-herd":       "registryd,distribution,nginx,nginx-static,direct",
		"warm-burst":      "registryd,distribution,nginx",
		"push-while-pull": "registryd,distribution",
	} {
		file := filepath.Join(t.TempDir(), "r.json")
		status, said := loadtests(t, "run", scenario, "--clients", "3", "--scale", "0.1", "--compare", contenders, "--calibrate=false", "--json", file,
			"--bin", "registryd="+programPath(t, "registryd"), "--bin", "distribution="+registry, "--assert", "errors==0")
		if status != 0 {
			t.Fatalf("%s: exit status %d:\n%s", scenario, status, said)
		}
		for _, c := range readReport(t, file).Contenders {
			m := c.Rounds[0]
			if len(m.Failures) > 0 || m.Verified != m.Received || m.Received < m.Wanted {
				t.Errorf("%s by %s: %d bytes, %d of them right, failures %v", scenario, c.Name, m.Received, m.Verified, m.Failures)
			}
			if c.Name != "direct" && (c.Version == "" || c.Version == "unknown" || len(c.Settings) == 0) {
				t.Errorf("%s: version %q, settings %q", c.Name, c.Version, c.Settings)
			}
		}
	}
}

// A ladder has a step for each value, lowest first: 2 s.
func TestLadderHasItsSteps(t *testing.T) {
	for of, steps := range map[string]string{"clients": "4,1", "blobs": "10,1000", "size": "1MiB,64KiB"} {
		file := filepath.Join(t.TempDir(), "r.json")
		status, said := loadtests(t, "ladder", "--of", of, "--steps", steps, "--clients", "3", "--scale", "0.05", "--calibrate=false",
			"--bin", "registryd="+programPath(t, "registryd"), "--json", file)
		if status != 0 {
			t.Fatalf("%s: exit status %d:\n%s", of, status, said)
		}
		l := readReport(t, file).Ladder
		if len(l.Steps) != 2 || l.Steps[0].Value >= l.Steps[1].Value || len(l.Steps[1].Measurement.Pulls) == 0 {
			t.Errorf("%s: got %d steps", of, len(l.Steps))
		}
	}
}

// The upstream on its own is a registry like any that runs already, and says at its
// end what it was asked: 1 s.
func TestUpstreamIsATarget(t *testing.T) {
	at := unused(t)
	var said bytes.Buffer
	cmd := exec.Command(programPath(t, "registryd"), "loadtest", "upstream", "cold-herd", "--scale", "0.05", "--latency", "1ms", "--listen", at)
	cmd.Stdout, cmd.Stderr = &said, &said
	check(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill() }) // if it still runs
	for end := time.Now().Add(startLimit); ; time.Sleep(5 * time.Millisecond) {
		resp, err := http.Get("http://" + at + "/v2/storm/app-1/manifests/v1")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Now().After(end) {
			t.Fatalf("the upstream does not answer: %v; it said\n%s", err, &said)
		}
	}
	status, words := loadtests(t, "run", "cold-herd", "--scale", "0.05", "--clients", "3", "--calibrate=false", "--images-there",
		"--target", "http://"+at, "--assert", "errors==0", "--assert", "pulls==3")
	if status != 0 {
		t.Errorf("exit status %d:\n%s", status, words)
	}
	if !strings.Contains(words, "was\nnot measured") || strings.Contains(words, "amplification") {
		t.Errorf("what nobody counted is said to have been sent:\n%s", words)
	}
	check(t, cmd.Process.Signal(os.Interrupt))
	if err := cmd.Wait(); err != nil || !strings.Contains(said.String(), "of content sent") {
		t.Errorf("%v:\n%s", err, &said)
	}
}

// ctrl-C ends a run at once, with what there is: 1 s.
func TestInterruptedRunReportsWhatThereIs(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "r.json")
	cmd := exec.Command(programPath(t, "registryd"), "loadtest", "run", "slow-clients", "--clients", "10", "--calibrate=false", "--json", file)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	stderr, err := cmd.StderrPipe()
	check(t, err)
	check(t, cmd.Start())
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && !strings.Contains(lines.Text(), "done") { // the first line that has figures
	}
	asked := time.Now()
	check(t, cmd.Process.Signal(os.Interrupt))
	for lines.Scan() { // until it has ended
	}
	cmd.Wait() // judged by its status
	if got := cmd.ProcessState.ExitCode(); got != exitInterrupted {
		t.Errorf("exit status %d, want %d", got, exitInterrupted)
	}
	if took := time.Since(asked); took > startLimit {
		t.Errorf("it took %v to end", took)
	}
	if r := readReport(t, file); r.Ended == "" || len(r.Contenders) != 1 {
		t.Errorf("the report says %q of %d contenders", r.Ended, len(r.Contenders))
	}
	left, err := filepath.Glob(filepath.Join(dir, "loadtest-*"))
	check(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// What cannot be run says so, each with its status, and before any load.
func TestRunsThatCannotBe(t *testing.T) {
	dead := "http://" + unused(t)
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	check(t, os.WriteFile(bad, []byte("images: {layers: [1MiB]}\nclients: {count: 3, profil: containerd}\nassert: ['p99(pul)<=1s']\n"), 0o600))
	for _, c := range []struct {
		status int
		want   string
		args   []string
	}{
		{exitUsage, `no scenario is called "cold-herds"`, []string{"run", "cold-herds"}},
		{exitUsage, `line 2: unknown key "clients.profil"; did you mean "clients.profile"?`, []string{"run", bad}},
		{exitUsage, "no such file", []string{"run", dir + "/none.yaml"}},
		{exitUsage, "p99(pul)", []string{"run", "cold-herd", "--assert", "p99(pul)<=1s"}},
		{exitUsage, "nginx, which is not in this run", []string{"run", "cold-herd", "--assert", "wall/wall(nginx)<=1.3"}},
		{exitUsage, `unknown target "registrid"`, []string{"run", "cold-herd", "--target", "registrid"}},
		{exitUsage, "named twice", []string{"run", "cold-herd", "--compare", "registryd,registryd"}},
		{exitUsage, "--upstream HOST:PORT", []string{"run", "cold-herd", "--target", dead}},
		{exitUsage, "write NAME=PATH", []string{"run", "cold-herd", "--bin", "zot"}},
		{exitUsage, "--rounds 0", []string{"run", "cold-herd", "--rounds", "0"}},
		{exitUsage, "clients, blobs and size", []string{"ladder", "--of", "hosts"}},
		{exitUsage, "no number of clients", []string{"ladder", "--steps", "1,many"}},
		{exitUsage, "reached by others", []string{"upstream", "cold-herd", "--listen", "0.0.0.0:0"}},
		{exitUsage, "not a report", []string{"report", bad}},
		{exitTarget, "no binary", []string{"run", "cold-herd", "--target", "zot", "--bin", "zot=" + dir + "/zot"}},
		{exitTarget, "does not answer", []string{"run", "cold-herd", "--calibrate=false", "--target", dead, "--images-there"}},
		{exitTarget, "--allow-remote", []string{"run", "cold-herd", "--calibrate=false", "--target", "http://192.0.2.1", "--images-there"}},
		{exitTarget, "does not start", []string{"run", "cold-herd", "--calibrate=false", "--bin", "registryd=" + programPath(t, "pull")}},
		{exitReport, "could not be written", []string{"run", "cold-herd", "--report", dir + "/none/r.html"}},
	} {
		status, said := loadtests(t, c.args...)
		if status != c.status || !strings.Contains(said, c.want) {
			t.Errorf("%v: exit status %d, want %d with %q:\n%s", c.args, status, c.status, c.want, said)
		}
	}
}

// A contender that ends in the middle ends the run, which says what it said last:
// under 1 s.
func TestTargetThatEndsInTheMiddle(t *testing.T) {
	status, said := loadtests(t, "run", "cold-herd", "--clients", "5", "--calibrate=false", "--bin", "registryd="+programPath(t, "mortal"))
	if status != exitDied || !strings.Contains(said, "struck by lightning") {
		t.Errorf("exit status %d, want %d with its last words:\n%s", status, exitDied, said)
	}
}

// Requests that cannot be written any more end the run with the status of a report,
// and the report has what was measured.
func TestFullDiskOfResultsEndsTheRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "r.json")
	status, said := loadtests(t, "run", "cold-herd", "--clients", "3", "--scale", "0.05", "--calibrate=false", "--target", "direct",
		"--results", "/dev/full", "--json", file)
	if status != exitReport || !strings.Contains(said, syscall.ENOSPC.Error()) {
		t.Errorf("exit status %d, want %d:\n%s", status, exitReport, said)
	}
	if r := readReport(t, file); len(r.Contenders[0].Rounds) != 1 || r.Ended == "" {
		t.Errorf("the report has %d rounds and says %q", len(r.Contenders[0].Rounds), r.Ended)
	}
}

// A report that finds the disk full says so with a status of its own, and the other
// report is written.
func TestFullDiskKeepsTheOtherReport(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	check(t, err)
	defer full.Close()
	o := output{json: filepath.Join(t.TempDir(), "r.json")}
	check(t, o.open())
	defer o.close()
	o.files = append([]*outputFile{{File: full, name: "r.html", write: loadreport.WriteHTML}}, o.files...)
	err = o.save(loadtest.Report{Scenario: loadtest.Scenario{Name: "x"}})
	if statusOf(err) != exitReport || !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		t.Errorf("got %v", err)
	}
	if r := readReport(t, o.json); r.Scenario.Name != "x" {
		t.Errorf("the other report is of %q", r.Scenario.Name)
	}
	o.files = o.files[1:] // close is not to remove /dev/full
}
