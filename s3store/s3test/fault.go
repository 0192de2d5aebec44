package s3test

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// A Fault is what goes wrong with one request. The zero value is nothing.
type Fault struct {
	Status     int    // answer with this error and do nothing
	Code       string // its S3 code; "" means a fitting one
	RetryAfter string // a header to go with it

	Drop bool // close the connection without doing anything
	Lose bool // do what was asked, then close the connection without an answer

	Latency     time.Duration // before anything else
	StallHeader bool          // do what was asked, then never answer
	StallBefore bool          // never read the request's body, nor answer

	// These count bytes of the answer's body. 0 is none, -1 means at its start.
	CutAfter   int64 // close the connection there, the length announced in full
	StallAfter int64 // send nothing from there on
	FlipAt     int64 // invert the bits of this byte

	Unframed bool        // announce no length: the end of the connection ends the body
	Header   http.Header // replaces header fields of the answer
	Extra    int         // this many bytes too many, which only an unframed body can show
}

// Fault sets the function that decides, for each request, what goes wrong; nil
// results and a nil function mean nothing. It is called from several goroutines.
func (s *Server) Fault(choose func(*http.Request) *Fault) { s.locked(func() { s.fault = choose }) }

// Always is a choice of f for each request of the operation, "" for all.
func Always(op string, f Fault) func(*http.Request) *Fault {
	return func(r *http.Request) *Fault {
		if op != "" && Op(r) != op {
			return nil
		}
		return &f
	}
}

// Times is a choice of f for the first n requests of the operation, "" for all.
func Times(n int, op string, f Fault) func(*http.Request) *Fault {
	var seen atomic.Int64
	always := Always(op, f)
	return func(r *http.Request) *Fault {
		if chosen := always(r); chosen != nil && seen.Add(1) <= int64(n) {
			return chosen
		}
		return nil
	}
}

func (f *Fault) code() string {
	codes := map[int]string{400: "BadRequest", 403: "AccessDenied", 404: "NoSuchKey", 409: "ConditionalRequestConflict", 412: "PreconditionFailed", 429: "TooManyRequests", 503: "SlowDown"}
	return cmp.Or(f.Code, codes[f.Status], "InternalError")
}

// stall waits until the client leaves or the server ends, and breaks the connection.
func (s *Server) stall(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-s.closing:
	}
	panic(http.ErrAbortHandler)
}

// chunk is how much is written at once: large, so that a gigabyte a second costs
// little, and small against the rate, so that it flows evenly.
const chunk = 256 << 10

// sendBody writes the body at the model's rate, with the fault's damage.
func (s *Server) sendBody(w io.Writer, r *http.Request, rep *reply, f *Fault, model Model) {
	start := time.Now()
	for off := int64(0); off < rep.body.size; {
		for _, at := range []struct {
			mark int64
			do   func()
		}{{f.CutAfter, func() { panic(http.ErrAbortHandler) }}, {f.StallAfter, func() { s.stall(r) }}} {
			if at.mark != 0 && off >= max(at.mark, 0) {
				if flusher, ok := w.(http.Flusher); ok {
					flusher.Flush()
				}
				at.do()
			}
		}
		p := rep.body.at(off, min(chunk, rep.body.size-off))
		for _, mark := range []int64{f.CutAfter, f.StallAfter} {
			if mark > off {
				p = p[:min(int64(len(p)), mark-off)]
			}
		}
		if flip := max(f.FlipAt, 0); f.FlipAt != 0 && flip >= off && flip < off+int64(len(p)) {
			p = append([]byte(nil), p...)
			p[flip-off] ^= 0xff
		}
		// Who has the last byte may look at the figures before the write returns here.
		s.sending(rep, int64(len(p)), off+int64(len(p)) == rep.body.size)
		n, err := w.Write(p)
		if err != nil {
			s.sending(rep, int64(n-len(p)), false)
			return
		}
		if off += int64(n); model.Rate > 0 {
			due := time.Duration(float64(off) / float64(model.Rate) * float64(time.Second))
			if !s.wait(r, due-time.Since(start)) {
				return
			}
		}
	}
}

// sending counts n bytes of an answer's body; last says that its request is no more in
// work then.
func (s *Server) sending(rep *reply, n int64, last bool) {
	s.locked(func() {
		if rep.key != "" {
			s.bytes[rep.key] += n
		}
		if last {
			rep.over = true
			s.active--
		}
	})
}

// sendUnframed answers over the bare connection, so that only its end ends the
// body; a cut then looks like one.
func (s *Server) sendUnframed(w http.ResponseWriter, r *http.Request, rep *reply, f *Fault, model Model) {
	h := w.Header()
	h.Del("Content-Length")
	h.Set("Connection", "close")
	conn, buf, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprintf(buf, "HTTP/1.1 %d %s\r\n", rep.status, http.StatusText(rep.status))
	h.Write(buf)
	io.WriteString(buf, "\r\n")
	cut := *f
	if f.CutAfter != 0 {
		rep.body.size, cut.CutAfter = min(max(f.CutAfter, 0), rep.body.size), 0
	}
	s.sendBody(flushed{buf.Writer}, r, rep, &cut, model)
	buf.Write(make([]byte, f.Extra))
	buf.Flush()
}

// flushed lets sendBody flush a bufio.Writer.
type flushed struct{ *bufio.Writer }

func (f flushed) Flush() { f.Writer.Flush() }
