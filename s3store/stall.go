package s3store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// DefaultStallTimeout ends a read that brings nothing for this long. S3 sends tens
// of megabytes a second: five seconds of silence within a body are a dead peer or
// a dropped route, and TCP alone would take a quarter of an hour to say so. Raise
// it only for stores that pause.
const DefaultStallTimeout = 5 * time.Second

// writeStalls is how many times longer a store may refuse to take bytes: it may be
// flushing what it got to slow disks.
const writeStalls = 3

var errStalled = fmt.Errorf("the store stalled: %w", os.ErrDeadlineExceeded)

// A watch is a body whose reads are timed. It cancels the exchange instead of
// setting a deadline on the connection: the connection's own reader is at work
// between the bodies too, where silence is normal, and a deadline cleared late
// would hit the next exchange.
type watch struct {
	io.ReadCloser
	timer  *time.Timer
	limit  time.Duration
	writes bool // time what happens between the reads, not the reads
}

// watchReads times each read from an answer's body. The pauses of the reader
// between them are its own affair.
func watchReads(body io.ReadCloser, limit time.Duration, cancel context.CancelCauseFunc) io.ReadCloser {
	return newWatch(body, limit, cancel, false)
}

func newWatch(body io.ReadCloser, limit time.Duration, cancel context.CancelCauseFunc, writes bool) *watch {
	w := &watch{ReadCloser: body, limit: limit, writes: writes}
	w.timer = time.AfterFunc(limit, func() { cancel(errStalled) })
	w.timer.Stop()
	return w
}

func (w *watch) Read(p []byte) (int, error) {
	if w.writes {
		w.timer.Stop()
	} else {
		w.timer.Reset(w.limit)
	}
	n, err := w.ReadCloser.Read(p)
	if w.writes && err == nil {
		w.timer.Reset(w.limit)
	} else {
		w.timer.Stop()
	}
	return n, err
}

func (w *watch) Close() error {
	w.timer.Stop()
	return w.ReadCloser.Close()
}

// An outgoing is the body of one request, from which the transport reads in a goroutine of
// its own: it may be at that for a while yet when the answer has come, and the same bytes
// go into another request. What is timed is what it does between two reads, or within
// sendfile: that is when it writes to the connection.
type outgoing struct {
	*watch
	file *inFile // nil: it is read

	mu   sync.Mutex // held while the bytes are read or wound back
	left bool       // they are another request's
}

func newOutgoing(body io.ReadCloser, limit time.Duration, cancel context.CancelCauseFunc) *outgoing {
	return &outgoing{watch: newWatch(body, limit, cancel, true)}
}

// leave has nothing more read for this request.
func (o *outgoing) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left = true
}

var errAnswered = errors.New("the request was answered before its body had been sent")

func (o *outgoing) Read(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.left {
		return 0, errAnswered
	}
	return o.watch.Read(p)
}

// sendTo has the kernel send what a read and a write would. A disk that is slow is waited
// for as the store is.
func (o *outgoing) sendTo(socket uintptr, n int64) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.left {
		return 0, errAnswered
	}
	o.timer.Reset(o.limit)
	return o.file.sendTo(socket, n)
}
