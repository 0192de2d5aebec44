package registryd

import (
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxConnections bounds the connections of one server. 1,000 clients of
	// three connections each fit; an idle one costs about 10 KiB, so a full
	// house of idle ones costs 40 MiB.
	maxConnections = 4096

	// spareFiles is how many descriptors are left to what are not clients: the
	// fills and their sources, logs, the program itself.
	spareFiles = 256
)

// connectionLimit is maxConnections, or what the limit on open files allows: each
// connection may have a blob open beside its socket.
func connectionLimit() int {
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) != nil || files.Cur >= 2*maxConnections+spareFiles {
		return maxConnections
	}
	return max(16, (int(files.Cur)-spareFiles)/2)
}

// connections holds a server to a number of connections. The ones that wait for a
// request, their first or their next, stand in a queue in the order in which they
// began to; above the limit the first of it is closed that has had an answer or been silent
// for long, or if there is none the head. Whoever is being answered is never closed.
//
// If all are being answered, the next one waits at the door for a moment (door.go). Is
// there still no place, it is closed itself: its client asks elsewhere or again. Kept
// waiting it would hang, since most clients have no deadline of their own.
//
// It is told by http.Server.ConnState.
type connections struct {
	mu         sync.Mutex // guards all below; nothing is closed under it
	limit      int
	turnedAway func() // told of each client that was closed before it was heard; nil: nobody
	open       map[*conn]struct{}
	queue      conn // the ring's root: next is the longest waiting
	serving    int  // goroutines of the server that have a connection
	draining   bool
	door       door
	empty      chan struct{} // closed when draining and serving is 0, for the first time
	emptied    bool          // it is closed
	sweeping   *time.Timer   // nil before the first connection
	swept      []*conn       // room for a sweep; nil while one has it
	busy       []*conn       // likewise
}

func newConnections(limit int) *connections {
	cs := &connections{limit: limit, open: make(map[*conn]struct{}), empty: make(chan struct{})}
	cs.queue.prev, cs.queue.next = &cs.queue, &cs.queue
	return cs
}

// changed is the server's ConnState. net/http calls a connection active once its
// headers are complete, so one with half a request waits, too.
func (cs *connections) changed(c net.Conn, state http.ConnState) {
	victim, unheard := cs.change(c.(*conn), state)
	if victim == nil {
		return
	}
	victim.Close() // its goroutine notices, and reports it closed
	if unheard && cs.turnedAway != nil {
		cs.turnedAway()
	}
}

// change returns the connection that has to be closed for it, if any, and whether
// that is one above the limit which has not been asked anything yet: there its client
// sees an error, where it takes another connection in place of an idle one.
func (cs *connections) change(c *conn, state http.ConnState) (victim net.Conn, unheard bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	switch state {
	case http.StateNew:
		if len(cs.open) == 0 {
			cs.sweepLater()
		}
		cs.serving++
		cs.open[c] = struct{}{}
		cs.wait(c)
	case http.StateActive:
		c.heard = true
		c.stopWaiting()
		return nil, false
	case http.StateIdle:
		if _, open := cs.open[c]; open {
			cs.wait(c)
			cs.door.open()
		}
	case http.StateClosed, http.StateHijacked:
		c.stopWaiting()
		c.end()
		delete(cs.open, c)
		cs.serving--
		cs.endIfEmpty()
		cs.door.open()
	}
	if first := cs.first(); first != nil && (cs.draining || len(cs.open) > cs.limit) {
		first.stopWaiting()
		delete(cs.open, first)
		return first, !first.heard && !cs.draining
	}
	return nil, false
}

// first is who is closed first, nil if nobody waits: the longest waiting that had an
// answer, whose client takes another connection, or has been silent for long, and not
// one whose first request may have come and not been read. The caller holds mu.
func (cs *connections) first() *conn {
	for c := cs.queue.next; c != &cs.queue; c = c.next {
		if c.yields() {
			return c
		}
	}
	if cs.queue.next == &cs.queue {
		return nil
	}
	return cs.queue.next
}

// wait puts c at the end of the queue.
func (cs *connections) wait(c *conn) {
	last := cs.queue.prev
	c.prev, c.next = last, &cs.queue
	last.next, cs.queue.prev = c, c
}

// stopWaiting takes c out of the queue if it is there.
func (c *conn) stopWaiting() {
	c.answering = false
	if c.next == nil {
		return
	}
	c.prev.next, c.next.prev = c.next, c.prev
	c.prev, c.next = nil, nil
}

// endIfEmpty says that the last connection has ended. A listener may accept one more
// until it is closed, and that one ends, too. The caller holds mu.
func (cs *connections) endIfEmpty() {
	if cs.draining && cs.serving == 0 && !cs.emptied {
		cs.emptied = true
		close(cs.empty)
	}
}

// drain closes all connections that wait, now and from now on, and returns a
// channel that is closed when none is left.
func (cs *connections) drain() <-chan struct{} {
	cs.mu.Lock()
	cs.draining = true
	cs.door.open()
	var waiting []*conn
	for c := cs.queue.next; c != &cs.queue; c = cs.queue.next {
		c.stopWaiting()
		delete(cs.open, c)
		waiting = append(waiting, c)
	}
	cs.endIfEmpty()
	cs.mu.Unlock()
	for _, c := range waiting {
		c.Close()
	}
	return cs.empty
}
