// Package line is what lies between a server of a load test and whoever calls it:
// latency, the rate of a connection and of all together, and what goes wrong with
// them at known times. The fake hub and the proxy before a bucket stand behind one.
//
//	Server ──> Handler: Line.Arrive ─> ... ─> Line.Pass, Line.Pass, ... ─> socket
//	   └ Down, Up              └───── Play: stall, slow, status, cut ─────┘
package line

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A Shape is how a line is in good times. The zero value is as fast as the machine.
type Shape struct {
	Latency        time.Duration // from a request to its first byte
	ConnectionRate int64         // bytes a second on one connection; 0 is unlimited
	TotalRate      int64         // bytes a second in all; 0 is unlimited
}

// A Line shapes answers. The zero value lets all pass; its methods may be called at
// any time, from any goroutine.
type Line struct {
	now atomic.Pointer[weather]

	mu     sync.Mutex // guards what follows
	shape  Shape
	active []Fault
}

// weather is what a line does at one moment; it does not change.
type weather struct {
	latency time.Duration
	rate    int64  // of a connection; 0 is unlimited
	total   *Pacer // nil is unlimited
	status  int
	cut     int64         // -1: none
	thaw    chan struct{} // closed when it is over; nil unless all stalls
}

var calm = &weather{cut: -1}

func (l *Line) weather() *weather {
	if w := l.now.Load(); w != nil {
		return w
	}
	return calm
}

// Set gives the line a shape from now on, for answers under way too.
func (l *Line) Set(s Shape) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shape = s
	l.change()
}

// begin and end are what Play does at the times of a fault.
func (l *Line) begin(f Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active = append(l.active, f)
	l.change()
}

func (l *Line) end(f Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.active {
		if l.active[i] == f {
			l.active = append(l.active[:i:i], l.active[i+1:]...)
			break
		}
	}
	l.change()
}

// change makes the weather anew from the shape and what is wrong; it is called with
// mu held. A stall that goes on keeps its channel, so that those who wait see its
// end, and the total keeps its pacer, so that what was reserved stays reserved.
func (l *Line) change() {
	old := l.weather()
	w := &weather{latency: l.shape.Latency, rate: l.shape.ConnectionRate, cut: -1}
	if l.shape.TotalRate > 0 {
		w.total = old.total
		if w.total == nil || w.total.Rate != l.shape.TotalRate {
			w.total = &Pacer{Rate: l.shape.TotalRate}
		}
	}
	stalled := false
	for _, f := range l.active {
		switch f.Kind {
		case Stall:
			stalled = true
		case Slow:
			if w.rate == 0 || f.Value < w.rate {
				w.rate = f.Value
			}
		case Status:
			w.status = int(f.Value)
		case Cut:
			w.cut = f.Value
		}
	}
	if stalled {
		w.thaw = old.thaw
		if w.thaw == nil {
			w.thaw = make(chan struct{})
		}
	}
	l.now.Store(w)
	if old.thaw != nil && !stalled {
		close(old.thaw)
	}
}

// An Order is how one answer has to end.
type Order struct {
	Status int   // to answer with instead; 0: none
	Cut    int64 // break the connection after so many bytes of the body; negative: don't
}

// Arrive is called for each request before its answer begins. It takes the line's
// latency, and as long as the line stalls; an error is ctx's.
func (l *Line) Arrive(ctx context.Context) (Order, error) {
	if err := Sleep(ctx, l.weather().latency); err != nil {
		return Order{}, err
	}
	w, err := l.thawed(ctx)
	return Order{Status: w.status, Cut: w.cut}, err
}

func (l *Line) thawed(ctx context.Context) (*weather, error) {
	for {
		w := l.weather()
		if w.thaw == nil {
			return w, nil
		}
		select {
		case <-w.thaw:
		case <-ctx.Done():
			return w, ctx.Err()
		}
	}
}

// Pass is called before bytes of a body move on connection c, which may be nil. Of n
// bytes it lets some pass, returns how many when their time has come, and reports
// whether a rate bounds them, so that they should be flushed. An error is ctx's.
func (l *Line) Pass(ctx context.Context, c *Conn, n int64) (may int64, paced bool, err error) {
	w, err := l.thawed(ctx)
	if err != nil || w.rate == 0 && w.total == nil {
		return n, false, err
	}
	var own *Pacer
	if w.rate > 0 && c != nil {
		own = at(&c.shaped, w.rate)
		n = min(n, own.Chunk())
	}
	if w.total != nil {
		n = min(n, w.total.Chunk())
		if err := w.total.Wait(ctx, n); err != nil {
			return 0, true, err
		}
	}
	if own != nil {
		if err := own.Wait(ctx, n); err != nil {
			return 0, true, err
		}
	}
	return n, true, nil
}
