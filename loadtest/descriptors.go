package loadtest

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
)

const (
	// spareDescriptors are left to what else the process has open: a hub, a
	// bucket's proxy and their connections count separately, the report, the pipes
	// of the contenders.
	spareDescriptors = 64

	// leastSlots are given in any case, so that a run goes on slowly.
	leastSlots = 16
)

// slots bound the connections by the descriptors that there are. A client that
// has to wait for one was held back by the tool, and is counted.
type slots struct {
	free   chan struct{}
	waited atomic.Int64
	limit  int
}

// newSlots raises the process's limit as far as it may, and makes a slot of each
// descriptor that is not in use, but not more than most, where that is not 0.
func newSlots(most int) *slots {
	limit := raiseDescriptors()
	open := 0
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
		open = len(entries)
	}
	n := min(max(limit-open-spareDescriptors, leastSlots), maxClients*maxAtOnce)
	if most > 0 {
		n = min(n, most)
	}
	return &slots{free: make(chan struct{}, n), limit: limit}
}

// raiseDescriptors sets the limit of open files to the hard limit and returns it.
func raiseDescriptors() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 1024 // what POSIX systems give by default
	}
	if l.Cur < l.Max {
		raised := syscall.Rlimit{Cur: l.Max, Max: l.Max}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
			l = raised
		}
	}
	return int(min(l.Cur, 1<<30))
}

// take waits for a slot, or for a connection that comes idle meanwhile: those who
// have connections must not wait for those who wait.
func (s *slots) take(ctx context.Context, idle <-chan *conn) (*conn, error) {
	select {
	case s.free <- struct{}{}:
		return nil, nil
	default:
	}
	s.waited.Add(1)
	select {
	case s.free <- struct{}{}:
		return nil, nil
	case k := <-idle:
		return k, nil
	case <-ctx.Done():
		return nil, failed("out of descriptors", "no descriptor was free in time: the limit is %d (ulimit -n)", s.limit)
	}
}

func (s *slots) give() { <-s.free }

// heldBack says that connections waited for a descriptor, if they did.
func (s *slots) heldBack() string {
	if n := s.waited.Load(); n > 0 {
		return fmt.Sprintf("%d connections waited for a free descriptor; the limit is %d: raise it (ulimit -Hn, LimitNOFILE=) or run fewer clients", n, s.limit)
	}
	return ""
}
