package target

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestCostIsWhatTheKernelSays(t *testing.T) {
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); {
		_ = fmt.Sprint(end) // user time
	}
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	c, err := costOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	total := func(r syscall.Rusage) time.Duration { return time.Duration(r.Utime.Nano() + r.Stime.Nano()) }
	// Children that were waited for are in the one and not in the other.
	if c.cpu < total(before)-2*tick {
		t.Errorf("CPU %v, the kernel says %v", c.cpu, total(before))
	}
	if c.rss < 1<<20 || c.rss > after.Maxrss<<10 {
		t.Errorf("RSS %d, the most was %d", c.rss, after.Maxrss<<10)
	}
	if c.threads < 2 || c.descriptors < 3 {
		t.Errorf("%d threads, %d descriptors", c.threads, c.descriptors)
	}
}

func TestStatOfANameWithSpaces(t *testing.T) {
	fields := make([]string, 22)
	for i := range fields {
		fields[i] = fmt.Sprint(i)
	}
	c, err := parseStat([]byte("1 (a) b (c) " + strings.Join(fields, " ")))
	if want := (11 + 12 + 13 + 14) * tick; err != nil || c.cpu != want || c.threads != 17 {
		t.Errorf("got %+v, %v", c, err)
	}
	if _, err := parseStat([]byte("1 (a) R 1")); err == nil {
		t.Error("a line that is too short was taken")
	}
}
