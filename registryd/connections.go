package registryd

import (
	"net"
	"net/http"
	"sync"

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
// began to; above the limit the head of the queue is closed. Whoever is being
// answered is never closed.
//
// If all are being answered, the head is the newest itself. Closed at once, its
// client asks elsewhere or again; kept waiting it would hang, since most clients
// have no deadline of their own.
//
// It is told by http.Server.ConnState. The connection itself stays what it is: a
// wrapper around it would come between the file and sendfile.
type connections struct {
	mu       sync.Mutex // guards all below; nothing is closed under it
	limit    int
	open     map[net.Conn]*connection
	queue    connection // the ring's root: next is the longest waiting
	serving  int        // goroutines of the server that have a connection
	draining bool
	empty    chan struct{} // closed when draining and serving is 0
}

// A connection is an element of the queue, or of none: next is nil then.
type connection struct {
	conn       net.Conn
	prev, next *connection
}

func newConnections(limit int) *connections {
	cs := &connections{limit: limit, open: make(map[net.Conn]*connection), empty: make(chan struct{})}
	cs.queue.prev, cs.queue.next = &cs.queue, &cs.queue
	return cs
}

// changed is the server's ConnState. net/http calls a connection active once its
// headers are complete, so one with half a request waits, too.
func (cs *connections) changed(c net.Conn, state http.ConnState) {
	if victim := cs.change(c, state); victim != nil {
		victim.Close() // its goroutine notices, and reports it closed
	}
}

// change returns the connection that has to be closed for it, if any.
func (cs *connections) change(c net.Conn, state http.ConnState) (victim net.Conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	e := cs.open[c]
	switch state {
	case http.StateNew:
		cs.serving++
		e = &connection{conn: c}
		cs.open[c] = e
		cs.wait(e)
	case http.StateActive:
		e.stopWaiting()
	case http.StateIdle:
		if e != nil {
			cs.wait(e)
		}
	case http.StateClosed, http.StateHijacked:
		e.stopWaiting()
		delete(cs.open, c)
		if cs.serving--; cs.serving == 0 && cs.draining {
			close(cs.empty)
		}
	}
	if head := cs.queue.next; head != &cs.queue && (cs.draining || len(cs.open) > cs.limit) {
		head.stopWaiting()
		delete(cs.open, head.conn)
		return head.conn
	}
	return nil
}

// wait puts e at the end of the queue.
func (cs *connections) wait(e *connection) {
	last := cs.queue.prev
	e.prev, e.next = last, &cs.queue
	last.next, cs.queue.prev = e, e
}

// stopWaiting takes e out of the queue if it is there; nil is a connection that
// has been given up already.
func (e *connection) stopWaiting() {
	if e == nil || e.next == nil {
		return
	}
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
}

// drain closes all connections that wait, now and from now on, and returns a
// channel that is closed when none is left.
func (cs *connections) drain() <-chan struct{} {
	cs.mu.Lock()
	first := !cs.draining
	cs.draining = true
	var waiting []net.Conn
	for e := cs.queue.next; e != &cs.queue; e = cs.queue.next {
		e.stopWaiting()
		delete(cs.open, e.conn)
		waiting = append(waiting, e.conn)
	}
	if first && cs.serving == 0 {
		close(cs.empty)
	}
	cs.mu.Unlock()
	for _, c := range waiting {
		c.Close()
	}
	return cs.empty
}
