package registryd

import (
	"errors"
	"io"
	"net/http"
	"os"
	"syscall"
	"time"

	"hostlocal/manifest"
)

const (
	// writeStep is how much of a file is handed to the connection under one
	// write deadline. With the server's StallLimit of a minute a client must
	// take 17 KiB/s to be let live; larger steps would end slower ones, smaller
	// ones cost a system call each.
	writeStep = 1 << 20

	// StallLimit is how long a client may take none of its answer before its
	// connection is broken. The slowest that are known to be honest take
	// 64 KiB/s, a step in 16 s.
	StallLimit = time.Minute
)

// A response wraps the server's ResponseWriter for one request. It counts for
// metrics and log, renews the connection's write deadline before every step of a
// body, and holds a status back until the first byte of the body, so that a fill
// that fails before that is still a proper error.
//
// It keeps io.ReaderFrom, and with it sendfile: a reader over a file reaches the
// connection as an io.LimitedReader directly over that file.
type response struct {
	http.ResponseWriter
	from     io.ReaderFrom // nil if the server's writer has none
	flusher  http.Flusher  // nil likewise
	deadline interface{ SetWriteDeadline(time.Time) error }
	conn     *conn // of the request; nil if it has none of ours
	stall    time.Duration
	whole    io.LimitedReader // of a file; here, since it would be garbage
	step     io.LimitedReader // of a part; likewise

	start  time.Time
	held   int // a status that waits for the body's first byte; 0: none
	status int // as sent; 0: none yet
	sent   int64
	first  time.Duration // from start to the first byte of the body; 0: none yet

	source string // X-Registryd-Source, for metrics and log
	digest manifest.Digest
	err    error // what fail answered with, for the log
	unread error // why what was to be sent could not be read
}

// reset binds w, which is zero, to a request.
func (w *response) reset(rw http.ResponseWriter, stall time.Duration, now time.Time) {
	w.ResponseWriter, w.stall, w.start = rw, stall, now
	w.from, _ = rw.(io.ReaderFrom)
	w.flusher, _ = rw.(http.Flusher)
	w.deadline, _ = rw.(interface{ SetWriteDeadline(time.Time) error })
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// hold sets the status of a body that is about to come. It is sent with the first
// byte or flush; until then fail may send another one.
func (w *response) hold(status int) { w.held = status }

// committed reports whether a status has been sent.
func (w *response) committed() bool { return w.status != 0 }

func (w *response) WriteHeader(status int) {
	w.held = 0
	if status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// commit sends the status that is held, or 200 as net/http would.
func (w *response) commit() {
	switch {
	case w.status != 0:
	case w.held != 0:
		w.WriteHeader(w.held)
	default:
		w.WriteHeader(http.StatusOK)
	}
}

// begin is called before bytes of the body go out. It reports whether they are
// the first ones, of an answer that did not take long to begin.
func (w *response) begin() (soon bool) {
	w.commit()
	if w.first == 0 {
		w.first = max(time.Since(w.start), 1)
		return w.first < time.Second
	}
	return false
}

// renew gives the client another StallLimit to take what is written next.
func (w *response) renew() {
	if w.deadline != nil {
		w.deadline.SetWriteDeadline(time.Now().Add(w.stall)) // fails on a dead connection; the write will say so
	}
}

// Write sends p, in steps like ReadFrom: a manifest may have 4 MiB, and a slow
// client has its time for each of them.
func (w *response) Write(p []byte) (total int, err error) {
	for {
		// The server has just set the deadline of the request, which is enough for
		// the one write of a manifest or a small blob.
		if !w.begin() {
			w.renew()
		}
		n, err := w.ResponseWriter.Write(p[:min(len(p), writeStep)])
		w.sent += int64(n)
		total += n
		if p = p[n:]; err != nil || len(p) == 0 {
			return total, err
		}
	}
}

// joinFrom is the size in bytes from which a body in memory does not fit into
// net/http's buffer together with its header.
const joinFrom = joinLimit - 1<<10

// writeWhole sends a body that is all of the content, in memory. A client that
// does not take it has left.
func (w *response) writeWhole(p []byte) {
	if w.conn == nil || len(p) < joinFrom {
		w.Write(p)
		return
	}
	w.conn.join()
	defer w.conn.endJoin()
	w.Write(p)
	if w.flusher != nil {
		w.flusher.Flush() // what is left in net/http's buffer leaves with what waits
	}
}

// sendFile sends all of a file, which is at its beginning. http.ServeContent would
// do the same after asking the kernel three times how long it is, and with 1 KiB
// more of stack, which for many a connection is what doubles it. If the file has
// become shorter net/http breaks the connection.
func (w *response) sendFile(f *os.File, size int64) {
	w.whole = io.LimitedReader{R: f, N: size}
	w.ReadFrom(&w.whole)
	w.whole.R = nil
}

// flushHead has the header leave with the file that comes next. Left to itself net/http
// would read the beginning of the file to guess what it is, which is said already,
// and send it with the header: a system call more, and a packet that wakes the
// client for half a KiB.
func (w *response) flushHead() {
	w.begin()
	w.renew()
	w.conn.join()
	w.flusher.Flush()
}

// endPatience leaves nothing waiting for a file that does not come.
func (w *response) endPatience() {
	w.conn.patient = false
	w.conn.endJoin()
}

// ReadFrom sends what src has, in steps.
func (w *response) ReadFrom(src io.Reader) (total int64, err error) {
	r, limit := src, int64(-1)
	outer, limited := src.(*io.LimitedReader)
	if limited {
		// One LimitedReader is all that sendfile looks through.
		r, limit = outer.R, outer.N
	}
	// A file is sent as there is room for it: the wait is here, and not within
	// net/http.
	_, file := r.(*os.File)
	patient := file && limited && w.conn != nil && w.from != nil && w.flusher != nil
	if patient {
		w.conn.patient = true
		defer w.endPatience()
		if w.sent == 0 && limit > 0 {
			w.flushHead()
		}
	}
	for limit != total {
		w.begin()
		w.renew()
		n := int64(writeStep)
		if limited {
			n = min(n, limit-total)
		}
		w.step = io.LimitedReader{R: r, N: n}
		var m int64
		switch {
		case patient:
			w.conn.full = false
			senders <- struct{}{}
			m, err = w.from.ReadFrom(&w.step)
			<-senders
		case w.from != nil:
			m, err = w.from.ReadFrom(&w.step)
		default:
			m, err = io.Copy(struct{ io.Writer }{w.ResponseWriter}, &w.step)
		}
		w.sent += m
		total += m
		if limited {
			outer.N -= m
		}
		if err == nil && patient && w.conn.full {
			if err = w.conn.awaitRoom(); err == nil {
				continue
			}
		}
		if err != nil || m < n {
			break
		}
	}
	if errors.Is(err, syscall.EIO) { // the disk's: no socket says so
		w.unread = err
	}
	w.step.R = nil
	return total, err
}

// Flush sends what is buffered, the status first.
func (w *response) Flush() {
	if w.flusher == nil {
		return
	}
	w.commit()
	w.renew()
	w.flusher.Flush()
}
