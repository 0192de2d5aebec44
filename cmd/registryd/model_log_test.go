package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// opLog keeps the end of what happened.
type opLog struct {
	mu    sync.Mutex // guards what follows
	lines []string
}

// opLogSize is how many lines are kept: some seconds of them.
const opLogSize = 120

func (l *opLog) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	if len(l.lines) > 2*opLogSize {
		l.lines = append(l.lines[:0], l.lines[len(l.lines)-opLogSize:]...)
	}
}

func (l *opLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines[max(0, len(l.lines)-opLogSize):], "\n") + "\n"
}

// step logs one request of an operation.
func (x *operation) step(q *request, p *reply) {
	x.world.log.add(fmt.Sprintf("%s %s  %s %s%s %s -> %s", p.begun.Format("05.000"), x, q.method, q.repo.name, q.path, q.header.Get("Range"), p))
}

// done logs the end of an operation.
func (x *operation) done() {
	x.world.log.add(fmt.Sprintf("%s %s  %s; done after %v", time.Now().Format("05.000"), x, x.note, time.Since(x.begun).Round(time.Millisecond)))
	x.world.tally.count(x)
}

// A tally counts operations: a run in which nothing succeeded would find nothing.
type tally struct {
	mu            sync.Mutex // guards what follows
	well, excused map[string]int
	longest       map[string]time.Duration
}

func (t *tally) count(x *operation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.well == nil {
		t.well, t.excused, t.longest = map[string]int{}, map[string]int{}, map[string]time.Duration{}
	}
	if x.excused {
		t.excused[x.name]++
	} else {
		t.well[x.name]++
	}
	t.longest[x.name] = max(t.longest[x.name], time.Since(x.begun))
}

// summary is a line a kind of operation: how many went well, how many were excused.
func (t *tally) summary() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	names := maps.Clone(t.well)
	maps.Copy(names, t.excused)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		fmt.Fprintf(&b, "\n%20s %5d well %4d excused, longest %v", name, t.well[name], t.excused[name], t.longest[name].Round(time.Millisecond))
	}
	return b.String()
}
