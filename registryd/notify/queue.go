package notify

import (
	"encoding/json"
	"slices"
	"sync"
)

const (
	// maxEvents and maxBytes bound the events of pushes and deletes that wait, in
	// memory and in the file: those of a day on which a team's CI pushes three times
	// a minute, of some 1 KiB each.
	maxEvents = 4 << 10
	maxBytes  = 4 << 20

	// maxPullEvents and maxPullBytes bound those of pulls, which are many and worth
	// little when they are old. They have a bound of their own, so that they push no
	// event of a push out.
	maxPullEvents = 1 << 10
	maxPullBytes  = 1 << 20

	// maxLines bounds what waits to be written to the file, in bytes. A disk that
	// hangs for longer has the file written anew once it does not.
	maxLines = 1 << 20
)

// A mask is a set of endpoints, a bit each.
type mask uint64

// bitOf is the bit of an endpoint by its place in Options.
func bitOf(i int) mask { return 1 << i }

// An entry is an event that not all who want it have.
type entry struct {
	seq  int64 // in the order of their coming
	pull bool
	left mask   // who is still to be given it
	body []byte // the event as JSON; never changed
}

// sum is what entries of one kind amount to.
type sum struct {
	count int
	bytes int64
}

func (s sum) over(pull bool) bool {
	if pull {
		return s.count > maxPullEvents || s.bytes > maxPullBytes
	}
	return s.count > maxEvents || s.bytes > maxBytes
}

// A queue is the events that are not delivered, in the order of their coming. Each
// endpoint goes through it at its own pace, and an entry leaves it when all who want
// it have it. When it is full the oldest goes, of pulls the oldest pull: what an
// endpoint finds after a day of being down is the latest, which is also what the
// registry serves.
type queue struct {
	names []string // of the endpoints
	kept  bool     // there is a file

	mu     sync.Mutex // guards what follows; no I/O under it
	live   []*entry
	seq    int64 // of the last
	pushes sum
	pulls  sum
	counts []count         // by endpoint
	wakes  []chan struct{} // by endpoint; something may have come

	kick    chan struct{} // there are lines
	lines   []byte        // for the file, not in it yet
	written chan struct{} // closed when they are; nil if there are none
	lost    bool          // there were too many of them: the file is to be written anew
}

// count is how an endpoint stands.
type count struct {
	waiting int   // entries
	dropped int64 // since the start
}

func newQueue(names []string) *queue {
	q := &queue{names: names, counts: make([]count, len(names)), kick: make(chan struct{}, 1)}
	for range names {
		q.wakes = append(q.wakes, make(chan struct{}, 1))
	}
	return q
}

// add queues an event. written is closed when the file has it; dropped names the
// endpoints that will not get one that waited longer, once for each.
func (q *queue) add(to mask, e Event) (written <-chan struct{}, dropped []string) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, nil // strings and numbers always have a form
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.seq++
	x := &entry{seq: q.seq, pull: e.Action == Pull, left: to, body: body}
	q.enter(x)
	q.note(record{Seq: x.seq, For: q.namesOf(to), Event: body})
	dropped = q.trim()
	for i, wake := range q.wakes {
		if to&bitOf(i) != 0 {
			poke(wake)
		}
	}
	return q.written, dropped
}

// enter puts an entry at the end. The caller holds mu.
func (q *queue) enter(x *entry) {
	q.live = append(q.live, x)
	s := q.sum(x.pull)
	s.count++
	s.bytes += int64(len(x.body))
	for i := range q.counts {
		if x.left&bitOf(i) != 0 {
			q.counts[i].waiting++
		}
	}
}

// sum is the one that entries of a kind count in.
func (q *queue) sum(pull bool) *sum {
	if pull {
		return &q.pulls
	}
	return &q.pushes
}

// trim lets the oldest go until the bounds hold. The caller holds mu.
func (q *queue) trim() (dropped []string) {
	for _, pull := range []bool{false, true} {
		for q.sum(pull).over(pull) {
			x := q.live[slices.IndexFunc(q.live, func(x *entry) bool { return x.pull == pull })]
			for i := range q.counts {
				if x.left&bitOf(i) != 0 {
					q.counts[i].dropped++
					dropped = append(dropped, q.names[i])
				}
			}
			q.settle(x, x.left)
			q.note(record{Seq: x.seq})
		}
	}
	return dropped
}

// settle notes that these endpoints need an entry no more. The caller holds mu.
func (q *queue) settle(x *entry, who mask) {
	for i := range q.counts {
		if x.left&who&bitOf(i) != 0 {
			q.counts[i].waiting--
		}
	}
	if x.left &^= who; x.left != 0 {
		return
	}
	if i := slices.Index(q.live, x); i >= 0 {
		q.live = slices.Delete(q.live, i, i+1)
		s := q.sum(x.pull)
		s.count--
		s.bytes -= int64(len(x.body))
	}
}

// first returns the oldest entry that an endpoint is to be given, or nil.
func (q *queue) first(bit mask) *entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, x := range q.live {
		if x.left&bit != 0 {
			return x
		}
	}
	return nil
}

// waits reports whether an endpoint is still to be given an entry.
func (q *queue) waits(x *entry, bit mask) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return x.left&bit != 0
}

// done notes that the endpoint in the place i is through with an entry.
func (q *queue) done(x *entry, i int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if x.left&bitOf(i) == 0 {
		return // it was dropped meanwhile, and the file says so
	}
	q.settle(x, bitOf(i))
	q.note(record{Seq: x.seq, By: q.names[i]})
}

// note has a record written to the file. The caller holds mu.
func (q *queue) note(r record) {
	if !q.kept {
		return
	}
	if q.written == nil {
		q.written = make(chan struct{})
	}
	poke(q.kick)
	if len(q.lines) > maxLines {
		q.lines, q.lost = nil, true
		return
	}
	q.lines = r.append(q.lines)
}

// poke has whoever waits for c look again; if it has not looked since the last time
// it is going to.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take returns what is to be written, and whom to tell when it is. lost says that
// something is missing.
func (q *queue) take() (lines []byte, written chan struct{}, lost bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines, written, lost = q.lines, q.written, q.lost
	q.lines, q.written, q.lost = nil, nil, false
	return lines, written, lost
}

// empty reports whether nobody is to be given anything, and the file knows all else.
func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.live) == 0 && len(q.lines) == 0
}

// all returns the lines of a file that says what is not delivered and nothing else,
// what is still to be written included.
func (q *queue) all() (lines []byte) {
	q.mu.Lock()
	list := make([]record, 0, len(q.live))
	for _, x := range q.live {
		list = append(list, record{Seq: x.seq, For: q.namesOf(x.left), Event: x.body})
	}
	q.mu.Unlock()
	for _, r := range list {
		lines = r.append(lines)
	}
	return lines
}

// namesOf returns the names of a set.
func (q *queue) namesOf(m mask) (names []string) {
	for i, name := range q.names {
		if m&bitOf(i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// count returns how an endpoint stands.
func (q *queue) count(i int) count {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.counts[i]
}
