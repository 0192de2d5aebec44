package s3store

import (
	"context"
	"fmt"
	"io"
	"os"
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
	file   *inFile // nil: it is read
	timer  *time.Timer
	limit  time.Duration
	writes bool // time what happens between the reads, not the reads
}

// watchReads times each read from an answer's body. The pauses of the reader
// between them are its own affair.
func watchReads(body io.ReadCloser, limit time.Duration, cancel context.CancelCauseFunc) io.ReadCloser {
	return newWatch(body, limit, cancel, false)
}

// watchWrites times what the transport does between two reads of a request's body:
// that is when it writes to the connection.
func watchWrites(body io.ReadCloser, limit time.Duration, cancel context.CancelCauseFunc) *watch {
	return newWatch(body, limit, cancel, true)
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
