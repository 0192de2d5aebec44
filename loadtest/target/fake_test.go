package target

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test's own binary stand in for registryd: started as `serve
// --config FILE` it is a registry that answers /v2/ and nothing else, unless its
// upstream's name says that it behaves worse. As `parent` it starts one and waits.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "serve":
		fakeMain(os.Args[3])
	case len(os.Args) > 1 && os.Args[1] == "parent":
		parentMain()
	case len(os.Args) > 1 && os.Args[1] == "version":
		fmt.Println("fake 1.0")
	default:
		os.Exit(m.Run())
	}
}

func fakeMain(config string) {
	text, err := os.ReadFile(config)
	if err != nil {
		panic(err)
	}
	listen := string(regexp.MustCompile(`listen: (.+)`).FindSubmatch(text)[1])
	fmt.Fprintln(os.Stderr, "fake: listening on", listen)
	if bytes.Contains(text, []byte("stillborn")) {
		fmt.Fprintln(os.Stderr, "fake: there is no such disk")
		os.Exit(3)
	}
	http.HandleFunc("/v2/", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/die", func(http.ResponseWriter, *http.Request) {
		fmt.Fprintln(os.Stderr, "fake: struck by lightning")
		os.Exit(4)
	})
	panic(http.ListenAndServe(listen, nil))
}

// parentMain starts a fleet and says its process, and then is killed.
func parentMain() {
	f, err := Start(context.Background(), "registryd", Options{Upstream: "http://hub", Binaries: map[string]string{"registryd": os.Args[0]}})
	if err != nil {
		panic(err)
	}
	fmt.Println(f.daemons[0].PID(), f.dir)
	select {}
}

// fake starts fleets of fakes.
func fake(t *testing.T, upstream string, daemons int) (*Fleet, error) {
	t.Helper()
	return Start(t.Context(), "registryd", Options{
		Upstream: upstream, Daemons: daemons, Dir: t.TempDir(), Binaries: map[string]string{"registryd": os.Args[0]},
	})
}

// gone waits until a process has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || bytes.Contains(stat, []byte(") Z ")) { // a zombie waits for whoever adopted it
			return
		}
		if time.Now().After(end) {
			t.Fatalf("process %d still runs", pid)
		}
	}
}

func TestFleetIsStartedSampledAndGone(t *testing.T) {
	f, err := fake(t, "http://hub", 2)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Targets) != 2 || f.Version != "fake 1.0" || len(f.Settings) == 0 {
		t.Errorf("got %d targets, version %q, settings %q", len(f.Targets), f.Version, f.Settings)
	}
	w := f.Watch(time.Now())
	all := w.Stop()
	one, err := costOf(f.daemons[0].PID())
	if err != nil {
		t.Fatal(err)
	}
	if last := all[len(all)-1]; last.RSS < one.rss*3/2 || last.Threads < 2 || last.Descriptors < 6 {
		t.Errorf("two processes cost %+v, one of them %+v", last, one)
	}
	if err := f.Err(); err != nil {
		t.Error(err)
	}
	pids := []int{f.daemons[0].PID(), f.daemons[1].PID()}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	for _, pid := range pids {
		gone(t, pid)
	}
	if _, err := os.Stat(f.dir); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}

func TestContenderThatEndsIsToldWithItsLastLines(t *testing.T) {
	f, err := fake(t, "http://hub", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	died := f.Died()
	http.Get(f.Targets[0].URL + "/die") // cannot be answered
	<-died
	if err := f.Err(); err == nil || !strings.Contains(err.Error(), "struck by lightning") || !strings.Contains(err.Error(), "exit status 4") {
		t.Errorf("got %v, want how it ended and what it said", err)
	}
}

func TestContenderThatDoesNotStartSaysWhy(t *testing.T) {
	_, err := fake(t, "http://stillborn", 1)
	if err == nil || !strings.Contains(err.Error(), "no such disk") {
		t.Errorf("got %v, want what it said", err)
	}
}

func TestChildEndsWithItsParent(t *testing.T) {
	cmd := exec.Command(os.Args[0], "parent")
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var dir string
	if _, err := fmt.Fscan(out, &pid, &dir); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	cmd.Wait() // killed
	gone(t, pid)
}
