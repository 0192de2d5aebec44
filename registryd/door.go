package registryd

import "time"

// doorPatience is for how long a client may stand before a full house. Of a storm of
// small answers some end in each millisecond; longer would only keep from asking
// elsewhere who is not going to be let in.
const doorPatience = 2 * time.Second

// A door is where clients wait while the house is full: in the kernel's queue of what
// has not been accepted, at no cost, and in the order of their coming. Without it a
// storm of more clients than there are places has those turned away that a moment later
// would have had one: their connections are accepted faster than the first of them are
// heard.
//
// Where nobody left in all of doorPatience the house is taken for stuck, held by clients
// that take nothing, say, and until somebody leaves nobody waits: who comes is turned
// away at once.
//
// It belongs to connections, whose mu guards it.
type door struct {
	left  chan struct{} // closed when somebody left; nil: nobody waits
	stuck bool
}

// open lets in who waits. Somebody has left or is idle, which is as good: he makes way.
func (d *door) open() {
	d.stuck = false
	if d.left != nil {
		close(d.left)
		d.left = nil
	}
}

// awaitPlace returns when one more connection would find a place, or nobody has made
// one for a while.
func (cs *connections) awaitPlace() {
	late := time.NewTimer(doorPatience)
	defer late.Stop()
	for {
		left := cs.full()
		if left == nil {
			return
		}
		select {
		case <-left:
		case <-late.C:
			cs.mu.Lock()
			cs.door.stuck = cs.door.left == left
			cs.mu.Unlock()
			return
		}
	}
}

// full returns what is closed when somebody leaves, if one has to wait for that.
func (cs *connections) full() chan struct{} {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if len(cs.open) < cs.limit || cs.draining || cs.door.stuck || cs.makesWay() {
		return nil
	}
	if cs.door.left == nil {
		cs.door.left = make(chan struct{})
	}
	return cs.door.left
}

// makesWay reports whether somebody can be closed for the next one. The caller holds mu.
func (cs *connections) makesWay() bool {
	c := cs.first()
	return c != nil && c.yields()
}

// yields reports whether a connection that waits is one to close for another: it has
// had an answer, or has not said a word for as long as others stand at the door.
func (c *conn) yields() bool { return c.heard || time.Since(c.born) > doorPatience }
