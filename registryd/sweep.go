package registryd

import (
	"net"
	"time"
)

// sweepEvery is how late a deadline of a conn may be kept. The shortest that is
// set is bodyLimit; a sweep over a full house takes some 100 µs.
const sweepEvery = 250 * time.Millisecond

// tracked is a listener whose connections are conns. It accepts when cs has a place for
// one more, or would have none for a while.
type tracked struct {
	net.Listener
	cs *connections
}

func (l tracked) Accept() (net.Conn, error) {
	l.cs.awaitPlace()
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newConn(c), nil
}

// sweepLater starts the sweeping; with mu held. An idle daemon without a
// connection is not woken.
func (cs *connections) sweepLater() {
	if cs.sweeping == nil {
		cs.sweeping = time.AfterFunc(sweepEvery, cs.sweep)
		return
	}
	cs.sweeping.Reset(sweepEvery)
}

// sweep keeps the deadlines of all connections, and looks whether the clients that
// were being answered at the last one as well are still there.
func (cs *connections) sweep() {
	now := time.Now()
	cs.mu.Lock()
	all, busy := cs.swept[:0], cs.busy[:0]
	cs.swept, cs.busy = nil, nil // a sweep that takes long may meet the next one
	for c := range cs.open {
		all = append(all, c)
		if c.answering {
			busy = append(busy, c)
		}
		c.answering = c.next == nil
	}
	cs.mu.Unlock()
	for _, c := range all {
		c.expire(now)
	}
	for _, c := range busy {
		c.endIfLeft()
	}
	clear(all)
	clear(busy)
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.swept, cs.busy = all, busy
	if len(cs.open) > 0 {
		cs.sweepLater()
	}
}
