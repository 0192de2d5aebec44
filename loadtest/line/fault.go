package line

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// The kinds of a Fault.
const (
	Stall  = "stall"  // nothing moves, bodies under way included; connections stay
	Down   = "down"   // connections end, and new ones are refused
	Cut    = "cut"    // each body breaks after Value bytes
	Status = "status" // each request is answered with the status Value
	Slow   = "slow"   // each connection carries Value bytes a second
)

// A Fault is something that happens to a line, and when.
type Fault struct {
	At    time.Duration // after Play was called
	For   time.Duration // 0 means until Play's stop
	Kind  string
	Value int64
}

// Check tells what is wrong with a fault that a person wrote.
func (f Fault) Check() error {
	switch {
	case f.At < 0 || f.For < 0:
		return fmt.Errorf("a fault begins after %v and lasts %v; neither can be negative", f.At, f.For)
	case f.Kind == Stall || f.Kind == Down:
		return nil
	case f.Kind == Cut && f.Value < 0:
		return fmt.Errorf("cut breaks a body after %d bytes; it cannot be negative", f.Value)
	case f.Kind == Slow && f.Value < 1:
		return fmt.Errorf("slow carries %d bytes a second; it needs one at least", f.Value)
	case f.Kind == Status && (f.Value < 400 || f.Value > 599 || http.StatusText(int(f.Value)) == ""):
		return fmt.Errorf("status %d is no error of HTTP", f.Value)
	case f.Kind == Cut || f.Kind == Slow || f.Kind == Status:
		return nil
	}
	return fmt.Errorf("%q is no kind of fault; there are stall, down, cut, status and slow", f.Kind)
}

// A Switch is what Down turns off and on: a Server.
type Switch interface {
	Down() error
	Up() error
}

// event is a beginning or an end.
type event struct {
	at    time.Duration
	begin bool
	fault Fault
}

// Play lets faults happen, counted from now; those at 0 have begun when it returns.
// Stop ends those that are at work, waits until they have ended and returns what went
// wrong with turning s off and on; it is to be called once. S may be nil where
// nothing goes down.
func (l *Line) Play(faults []Fault, s Switch) (stop func() error, err error) {
	p := &player{line: l, servers: s, began: time.Now()}
	var events []event
	for i, f := range faults {
		if err := f.Check(); err != nil {
			return nil, fmt.Errorf("fault %d: %w", i+1, err)
		}
		events = append(events, event{f.At, true, f})
		if f.For > 0 {
			events = append(events, event{f.At + f.For, false, f})
		}
	}
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	for len(events) > 0 && events[0].at == 0 {
		p.happen(events[0])
		events = events[1:]
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.play(ctx, events)
	}()
	return func() error {
		cancel()
		<-done
		return p.failed
	}, nil
}

// A player carries faults out: its Play's caller first, then one goroutine.
type player struct {
	line    *Line
	servers Switch
	began   time.Time
	active  []Fault
	down    int // how many of active are Down
	failed  error
}

func (p *player) play(ctx context.Context, events []event) {
	for _, e := range events {
		if Sleep(ctx, e.at-time.Since(p.began)) != nil {
			break
		}
		p.happen(e)
	}
	<-ctx.Done()
	for len(p.active) > 0 {
		p.happen(event{fault: p.active[0]})
	}
}

func (p *player) happen(e event) {
	by := 1
	if e.begin {
		p.active = append(p.active, e.fault)
		p.line.begin(e.fault)
	} else {
		by = -1
		i := slices.Index(p.active, e.fault)
		p.active = slices.Delete(p.active, i, i+1)
		p.line.end(e.fault)
	}
	if e.fault.Kind != Down || p.servers == nil {
		return
	}
	was := p.down
	p.down += by
	switch {
	case was == 0:
		p.failed = cmp.Or(p.failed, p.servers.Down())
	case p.down == 0:
		p.failed = cmp.Or(p.failed, p.servers.Up())
	}
}
