package s3test

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"time"
)

// zeros is what a sink's objects are made of.
var zeros = make([]byte, chunk)

// sink takes a part and keeps its length.
func (s *Server) sink(r *http.Request) *reply {
	number, err := strconv.Atoi(r.URL.Query().Get("partNumber"))
	if err != nil || number < 1 || number > 10_000 || r.ContentLength <= 0 {
		return refuse(http.StatusBadRequest, "InvalidArgument")
	}
	buf := make([]byte, chunk)
	for left := r.ContentLength; left > 0; {
		n, err := r.Body.Read(buf)
		if left -= int64(n); err != nil && left > 0 {
			return refuse(http.StatusBadRequest, "IncompleteBody")
		}
	}
	var tag [16]byte
	rand.Read(tag[:])
	return s.keepPart(r, number, part{content{zeros, r.ContentLength}, hex.EncodeToString(tag[:])})
}

// pace has the request's body come at the model's rates.
func (s *Server) pace(r *http.Request, m Model) {
	if m.Rate > 0 || m.Inbound > 0 {
		r.Body = &paced{ReadCloser: r.Body, s: s, r: r, model: m, begun: time.Now()}
	}
}

// paced is a body that is read no faster than a model says.
type paced struct {
	io.ReadCloser
	s     *Server
	r     *http.Request
	model Model
	begun time.Time
	read  int64
}

func (p *paced) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b[:min(len(b), chunk)])
	p.read += int64(n)
	now := time.Now()
	wait := p.s.queue(now, int64(n), p.model.Inbound)
	if p.model.Rate > 0 {
		wait = max(wait, p.begun.Add(lasting(p.read, p.model.Rate)).Sub(now))
	}
	if wait > lateness/10 && !p.s.wait(p.r, wait) {
		return 0, http.ErrAbortHandler
	}
	return n, err
}

// lateness is by how much those who are let in may fall behind the clock and still
// catch up: timers fire a millisecond or two late.
const lateness = 20 * time.Millisecond

// queue lets n more bytes in and returns how long they take, with those before them.
func (s *Server) queue(now time.Time, n, rate int64) (wait time.Duration) {
	if rate > 0 {
		s.locked(func() {
			if s.due.Before(now.Add(-lateness)) {
				s.due = now
			}
			s.due = s.due.Add(lasting(n, rate))
			wait = s.due.Sub(now)
		})
	}
	return wait
}

func lasting(n, rate int64) time.Duration {
	return time.Duration(float64(n) / float64(rate) * float64(time.Second))
}
