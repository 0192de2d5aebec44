package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The benchmarks of the whole daemon (bench_*_test.go) compare it with others that
// serve the same bytes in the same run, in rounds: each round gives every one its
// turn, beginning with another one each time, so that what else the machine does
// hits all alike. What they report are ratios, with the median of the rounds and the
// least and the largest of them. docs/performance.md has the figures.

// benchFull has the benchmarks move as much as the promises speak of. By default
// they are small: they show that they work, and give the order of magnitude.
var benchFull = flag.Bool("full", false, "run the benchmarks of the whole daemon at full size")

// sized returns one of two sizes.
func sized[N int | int64](small, full N) N {
	if *benchFull {
		return full
	}
	return small
}

// A contender is one of those that are compared.
type contender struct {
	name    string
	address string // host:port
	pids    func() []int
}

// A turn is what a contender took for a fixed amount of work.
type turn struct {
	wall time.Duration
	cpu  time.Duration // of the contender's processes, not the client's
}

// rounds gives each contender a turn in every iteration of the benchmark.
func rounds(b *testing.B, all []contender, work func(address string) error) map[string][]turn {
	b.Helper()
	turns := map[string][]turn{}
	for _, c := range all { // page cache, connections to it, and lazy starts
		if err := work(c.address); err != nil {
			b.Fatalf("%s: %v", c.name, err)
		}
	}
	first := 0
	for b.Loop() {
		for i := range all {
			c := all[(first+i)%len(all)]
			begun, used := time.Now(), cpuOf(b, c.pids())
			if err := work(c.address); err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
			turns[c.name] = append(turns[c.name], turn{time.Since(begun), cpuOf(b, c.pids()) - used})
		}
		first++
	}
	b.ReportMetric(0, "ns/op") // of a round: says nothing
	return turns
}

// reportRatio reports the median of what of gives for each of n rounds, the least
// and the largest.
func reportRatio(b *testing.B, unit string, n int, of func(round int) float64) {
	b.Helper()
	all := sorted(n, of)
	b.ReportMetric(middle(n, of), unit)
	b.ReportMetric(all[0], unit+"-min")
	b.ReportMetric(all[n-1], unit+"-max")
}

func sorted(n int, of func(int) float64) []float64 {
	all := make([]float64, n)
	for i := range all {
		all[i] = of(i)
	}
	slices.Sort(all)
	return all
}

// middle is the median of what of gives for each of n rounds.
func middle(n int, of func(int) float64) float64 {
	all := sorted(n, of)
	return (all[(n-1)/2] + all[n/2]) / 2
}

// cpuOf is the CPU time that processes have used, in user and in kernel mode.
func cpuOf(t testing.TB, pids []int) (sum time.Duration) {
	t.Helper()
	// USER_HZ, the unit in which the kernel tells it, is 100 on all that Go runs on.
	const tick = 10 * time.Millisecond
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		// The second field is the name in parentheses, which may have spaces.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		for _, f := range fields[11:13] { // utime and stime
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += time.Duration(n) * tick
		}
	}
	return sum
}

// family is a process and its children.
func family(t testing.TB, pid int) (pids []int) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	pids = []int{pid}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, child)
		}
	}
	return pids
}
