package blobcache

import "sync"

// A trail hashes what ReadFrom writes, one piece behind: while a piece is hashed the
// next one is received and written. To hash takes as long as all the rest.
//
//	r ──> buffer ──> file          r ──> the other buffer ──> file
//	         └─────> sha256  (another goroutine)    └─────> sha256
//
// For as long as it lasts the running hash is its own.
type trail struct {
	u      *Upload
	free   chan []byte // the two buffers, but for what is being read into
	pieces chan []byte // written, to be hashed
	begun  bool        // the goroutine is there
	over   sync.WaitGroup
	done   func() // gives the buffers back
}

// newTrail begins to follow the upload. end must follow.
func (u *Upload) newTrail() (*trail, error) {
	if !u.c.enter() {
		return nil, uploadTrouble(errClosed)
	}
	defer u.c.work.Done()
	if err := u.hashOn(); err != nil { // an earlier process's bytes: before there are more
		return nil, err
	}
	t := &trail{u: u, free: make(chan []byte, 2), pieces: make(chan []byte, 1)}
	t.done = u.c.uploads.buffers(t.free)
	return t, nil
}

// buffers lends what a sender's bytes are read into, and returns what gives it back.
func (s *uploads) buffers(free chan<- []byte) (done func()) {
	select {
	case s.wide <- struct{}{}:
		a, b := getBuffer(), getBuffer()
		free <- *a
		free <- *b
		return func() { putBuffer(a); putBuffer(b); <-s.wide }
	default:
		free <- make([]byte, narrow)
		free <- make([]byte, narrow)
		return func() {}
	}
}

// buffer waits until there is one to read into.
func (t *trail) buffer() []byte { return <-t.free }

// write appends a piece, all of a buffer unless it is the last.
func (t *trail) write(piece []byte, last bool) (n int, err error) {
	if !t.u.c.enter() {
		return 0, uploadTrouble(errClosed)
	}
	n, err = t.u.write(piece)
	t.u.flush()
	if last || err != nil {
		t.rest()
		t.u.hash(piece[:n])
		t.u.c.work.Done()
		return n, err
	}
	if !t.begun {
		t.begun = true
		pieces := t.pieces
		t.over.Go(func() { t.follow(pieces) })
	}
	t.pieces <- piece // with the Done that follow owes for it
	return n, nil
}

// follow hashes the pieces. The cache is not closed before: it takes the hash along.
func (t *trail) follow(pieces <-chan []byte) {
	for p := range pieces {
		t.u.hash(p)
		t.u.c.work.Done()
		t.free <- p
	}
}

// rest waits until all is hashed.
func (t *trail) rest() {
	if t.pieces != nil {
		close(t.pieces)
		t.pieces = nil
		t.over.Wait()
	}
}

// end ends the trail.
func (t *trail) end() {
	t.rest()
	t.done()
}
