package target

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A cost is what /proc says of one process, or the sum over several.
type cost struct {
	cpu         time.Duration // user and system time of all its threads since it began
	rss         int64         // bytes
	threads     int
	descriptors int
}

func (c *cost) add(d cost) {
	c.cpu += d.cpu
	c.rss += d.rss
	c.threads += d.threads
	c.descriptors += d.descriptors
}

// costOf sums up a process and its children. What ends in between counts as
// nothing; the error is that the process itself is gone.
//
// Memory that nginx's workers share with their master is counted for each.
func costOf(pid int) (cost, error) {
	sum, err := costOfOne(pid)
	if err != nil {
		return cost{}, err
	}
	for _, child := range children(pid) {
		if c, err := costOfOne(child); err == nil {
			sum.add(c)
		}
	}
	return sum, nil
}

// children returns the processes that pid's threads started and that still run.
func children(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is good
	for _, list := range lists {
		text, _ := os.ReadFile(list) // a thread that has ended has none
		for _, f := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(f); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

func costOfOne(pid int) (cost, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return cost{}, err
	}
	c, err := parseStat(stat)
	if err != nil {
		return cost{}, fmt.Errorf("%s/stat: %w", dir, err)
	}
	c.descriptors = countDescriptors(dir + "/fd")
	c.cpu, err = cpuTime(pid)
	return c, err
}

// cpuTime reads a process's clock, which counts in nanoseconds where /proc counts in
// hundredths of a second: a small run takes less than one. The clock's number is
// made of the process's as clock_getcpuclockid(3) does it.
func cpuTime(pid int) (time.Duration, error) {
	const ofProcess = 2 // CPUCLOCK_SCHED, all threads
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|ofProcess), &t); err != nil {
		return 0, fmt.Errorf("the CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// The fields of /proc/PID/stat after the name, counted from 0: see proc(5).
const (
	fieldThreads = 17
	fieldRSS     = 21 // pages
)

func parseStat(stat []byte) (cost, error) {
	// The second field is the name in parentheses, which may have spaces.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) <= fieldRSS {
		return cost{}, fmt.Errorf("has only %d fields", len(fields))
	}
	var failed error
	number := func(i int) int64 {
		n, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			failed = err
		}
		return n
	}
	return cost{
		rss:     number(fieldRSS) * int64(os.Getpagesize()),
		threads: int(number(fieldThreads)),
	}, failed
}

// countDescriptors returns how many entries the folder has: since Linux 6.2 its
// size says so, which with thousands of connections spares a long listing.
func countDescriptors(dir string) int {
	if info, err := os.Stat(dir); err == nil && info.Size() > 0 {
		return int(info.Size())
	}
	all, _ := os.ReadDir(dir) // gone with the process
	return len(all)
}
