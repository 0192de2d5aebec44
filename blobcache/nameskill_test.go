package blobcache

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// killedDir names, in the environment of a copy of this test binary, the cache
// folder in which it writes until it is killed.
const killedDir = "BLOBCACHE_TEST_NAMES_KILLED_IN"

// TestNamesAreKilled is what the copy runs: it moves a tag and adds links without
// end, and says what is done.
func TestNamesAreKilled(t *testing.T) {
	dir := os.Getenv(killedDir)
	if dir == "" {
		return // not in the copy
	}
	n, err := OpenNames(dir, nil)
	for i := 0; err == nil; i++ {
		if err = n.SetTag("a/b", "v1", numberedDigest(i), atNoon); err == nil {
			err = n.LinkLayer("a/b", numberedDigest(i))
		}
		fmt.Println("done", i)
	}
	t.Fatal(err)
}

func TestKillLosesNothingAcknowledged(t *testing.T) {
	const kills = 12
	h := newNamesTester(t)
	for round := range kills {
		copied := exec.Command(os.Args[0], "-test.run=^TestNamesAreKilled$")
		copied.Env = append(os.Environ(), killedDir+"="+h.dir)
		out, err := copied.StdoutPipe()
		h.must(err)
		h.must(copied.Start())
		last := -1
		for lines := bufio.NewScanner(out); lines.Scan(); {
			i, err := strconv.Atoi(strings.TrimPrefix(lines.Text(), "done "))
			if err != nil {
				t.Fatalf("the copy says %q", lines.Text())
			}
			if last = i; i == 3+round*2 {
				h.must(copied.Process.Kill())
			}
		}
		if err := copied.Wait(); err == nil || last < 3 {
			t.Fatalf("the copy ended after %d: %v", last, err)
		}

		// What it was doing when it died may be done or not, nothing in between.
		h.restart()
		got, err := h.Tag("a/b", "v1")
		if err != nil || got.Digest != numberedDigest(last) && got.Digest != numberedDigest(last+1) || !got.Confirmed.Equal(atNoon) {
			t.Errorf("after %d: %v, %v", last, got, err)
		}
		for i := range last + 1 {
			if !h.HasLayer("a/b", numberedDigest(i)) {
				t.Errorf("after %d: link %d is gone", last, i)
			}
		}
		h.must(h.SetTag("a/b", "v1", numberedDigest(0), atNoon.Add(time.Hour)))
		h.wantTag("a/b", "v1", numberedDigest(0), atNoon.Add(time.Hour))
	}
}
