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
	const slack = 20 * time.Millisecond // rusage is scaled by ticks, the clock is not
	if c.cpu < total(before)-slack || c.cpu > total(after)+slack {
		t.Errorf("CPU %v, the kernel says %v before and %v after", c.cpu, total(before), total(after))
	}
	if c.rss < 1<<20 || c.rss > after.Maxrss<<10+4<<20 { // the kernel counts pages by core, and sums them up now and then
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
	if err != nil || c.threads != 17 || c.rss != 21*int64(os.Getpagesize()) {
		t.Errorf("got %+v, %v", c, err)
	}
	if _, err := parseStat([]byte("1 (a) R 1")); err == nil {
		t.Error("a line that is too short was taken")
	}
}
