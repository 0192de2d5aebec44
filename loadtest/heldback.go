package loadtest

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// lateAllowed is how late a pull may start without a word. A burst of a
	// thousand on two cores starts within it.
	lateAllowed = 100 * time.Millisecond

	// lateWait is the share of its wait that a pull may start late: below it, the
	// target's figure is the target's.
	lateWait = 0.05

	// lateShare is the share of pulls that may be later than both.
	lateShare = 0.01

	// busyCores is the share of all cores beyond which there was no room for more,
	// and busyTool the share of the work that makes it the tool's.
	busyCores = 0.9
	busyTool  = 0.7

	// shortest is the run below which CPU time says nothing.
	shortest = 200 * time.Millisecond
)

// lateness says that the tool could not begin pulls when they were due, if so.
func lateness(pulls []Pull) string {
	var late []time.Duration
	for _, p := range pulls {
		if d := p.Start - p.Due; d > lateAllowed && float64(d) > lateWait*float64(p.Wait()) {
			late = append(late, d)
		}
	}
	if float64(len(late)) <= lateShare*float64(len(pulls)) {
		return ""
	}
	return fmt.Sprintf("%d of %d pulls began late, by up to %v: the tool was not given the CPU for them; run fewer clients, or the tool on a machine of its own",
		len(late), len(pulls), slices.Max(late).Round(time.Millisecond))
}

// A cpuLoad is what the tool and the targets had used when a run began.
type cpuLoad struct {
	target   func() time.Duration
	tool0    time.Duration
	then0    time.Duration
	pressure int64
}

func measureLoad(target func() time.Duration) cpuLoad {
	l := cpuLoad{target: target, tool0: ownCPU(), pressure: memoryPressures()}
	if target != nil {
		l.then0 = target()
	}
	return l
}

// heldBack says that the tool itself used the cores up, if so. What a hub in this
// process uses counts as the tool's.
func (l cpuLoad) heldBack(wall time.Duration) string {
	if wall < shortest {
		return ""
	}
	tool, target := ownCPU()-l.tool0, time.Duration(0)
	if l.target != nil {
		target = l.target() - l.then0
	}
	all := wall.Seconds() * float64(runtime.GOMAXPROCS(0))
	sum := (tool + target).Seconds()
	if sum < busyCores*all || tool.Seconds() < busyTool*sum {
		return ""
	}
	return fmt.Sprintf("the tool used %.1f of %.1f core-seconds and the targets %.1f: the machine's cores were the bound, and the tool had most of them; run it elsewhere, or hash less (clients: {sample: 10})",
		tool.Seconds(), all, target.Seconds())
}

// starved says that the kernel ran short of memory for sockets, if so.
func (l cpuLoad) starved() string {
	if memoryPressures() == l.pressure {
		return ""
	}
	return "the kernel ran short of memory for TCP (net.ipv4.tcp_mem) and dropped packets: waits of seconds may be its doing; run fewer clients, or the tool on a machine of its own"
}

// ownCPU returns the user and system time of this process.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// joinReasons puts what there is into one line.
func joinReasons(reasons ...string) string {
	return strings.Join(slices.DeleteFunc(reasons, func(s string) bool { return s == "" }), "; ")
}
