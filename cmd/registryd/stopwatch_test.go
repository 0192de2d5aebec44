package main

import (
	"sync"
	"sync/atomic"
	"time"
)

// A stopwatch measures what the daemon takes. What a machine that does much else
// keeps everybody waiting is not in it: on one without a free processor all bounds
// are met, and on an idle one they are exact.
type stopwatch struct {
	start time.Time
	late  int64
}

// waited is how long in all, in nanoseconds, somebody who wanted to do nothing
// was kept waiting to do it.
var waited atomic.Int64

// watch counts for as long as the process lives.
var watch = sync.OnceFunc(func() {
	go func() {
		const nap, usual = 5 * time.Millisecond, 2 * time.Millisecond
		for {
			start := time.Now()
			time.Sleep(nap)
			if late := time.Since(start) - nap; late > usual {
				waited.Add(int64(late))
			}
		}
	}()
})

func startWatch() stopwatch {
	watch()
	return stopwatch{time.Now(), waited.Load()}
}

func (s stopwatch) took() time.Duration { return time.Since(s.start) - s.starved() }

// starved is how much of the time since the start nobody had a processor.
func (s stopwatch) starved() time.Duration { return time.Duration(waited.Load() - s.late) }
