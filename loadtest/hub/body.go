package hub

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"hostlocal/loadtest/line"
	"hostlocal/manifest"
)

// send answers with the content, or with the range of it that was asked for,
// bent by the plan. d is what Docker-Content-Digest says and the digest under
// which the bytes are counted; zero for neither.
func (x *exchange) send(c Content, mediaType string, d manifest.Digest) {
	p, hd := x.plan, x.w.Header()
	hd.Set("Content-Type", mediaType)
	if !d.IsZero() && !p.noDigest {
		hd.Set("Docker-Content-Digest", d.String())
		hd.Set("Etag", strconv.Quote(d.String()))
	}
	status, off, n := http.StatusOK, int64(0), c.Size
	if !p.noRanges {
		hd.Set("Accept-Ranges", "bytes")
		if spec := x.r.Header.Get("Range"); spec != "" && x.q.Kind != GetManifest {
			first, last, ok := parseRange(spec, c.Size)
			if !ok {
				hd.Set("Content-Range", fmt.Sprintf("bytes */%d", c.Size))
				x.fail(http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID")
				return
			}
			first = min(first+p.wrongRange, last)
			status, off, n = http.StatusPartialContent, first, last-first+1
			hd.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, c.Size))
		}
	}
	n = max(0, n-p.short) + p.long
	switch {
	case p.length >= 0:
		hd.Set("Content-Length", strconv.FormatInt(p.length, 10))
	case !p.chunked && !p.endless && !p.gzip:
		hd.Set("Content-Length", strconv.FormatInt(n, 10))
	}
	if p.gzip {
		hd.Set("Content-Encoding", "gzip")
	}
	x.start(status)
	if x.r.Method == http.MethodHead {
		return
	}
	s := &sink{x: x, conn: line.ConnOf(x.r), sent: x.hub.log.counter(d)}
	s.paces = x.paces(s.conn)
	if p.chunked {
		s.flush()
	}
	var w io.Writer = s
	if p.gzip {
		z := gzip.NewWriter(s)
		defer z.Close()
		w = z
	}
	x.copy(w, c, off, n)
}

// parseRange reads a Range of one span against a length.
func parseRange(spec string, size int64) (first, last int64, ok bool) {
	spec, ok = strings.CutPrefix(spec, "bytes=")
	a, b, dash := strings.Cut(spec, "-")
	if !ok || !dash {
		return 0, 0, false
	}
	last = size - 1
	var err error
	if a == "" {
		n, err := strconv.ParseInt(b, 10, 64)
		return max(0, size-n), last, err == nil && n > 0 && size > 0
	}
	if first, err = strconv.ParseInt(a, 10, 64); err != nil {
		return 0, 0, false
	}
	if b != "" {
		if last, err = strconv.ParseInt(b, 10, 64); err != nil {
			return 0, 0, false
		}
		last = min(last, size-1)
	}
	return first, last, first >= 0 && first <= last
}

// copy writes n bytes from offset off of the content on, and noise where it has
// ended.
func (x *exchange) copy(w io.Writer, c Content, off, n int64) {
	p := x.plan
	buf, give := borrow()
	defer give()
	const noise = 0xbad
	for end := off + n; off < end || p.endless; {
		b := buf
		if !p.endless {
			b = b[:min(int64(len(b)), end-off)]
		}
		k, _ := c.ReadAt(b, off)
		generate(b[k:], noise, off+int64(k))
		for _, at := range p.flips {
			if i := at - off; i >= 0 && i < int64(len(b)) {
				b[i] ^= 0xff
			}
		}
		if from, to := max(p.zeroFrom, off), min(p.zeroTo, off+int64(len(b))); from < to {
			clear(b[from-off : to-off])
		}
		if _, err := w.Write(b); err != nil {
			return
		}
		off += int64(len(b))
	}
}

// paces returns the rates that bound this answer beside the line's.
func (x *exchange) paces(c *line.Conn) []*line.Pacer {
	var out []*line.Pacer
	x.hub.mu.Lock()
	if x.hub.total != nil {
		out = append(out, x.hub.total)
	}
	x.hub.mu.Unlock()
	if rate := x.plan.rate; rate > 0 {
		out = append(out, c.Pacer(rate))
	}
	return out
}

// A sink is the body's way to the socket: it counts, paces, stalls and cuts.
type sink struct {
	x     *exchange
	conn  *line.Conn
	sent  *atomic.Int64 // of this content; nil if it is not counted
	paces []*line.Pacer
	pos   int64
}

func (s *sink) flush() {
	if f, ok := s.x.w.(http.Flusher); ok {
		f.Flush()
	}
}

func (s *sink) Write(b []byte) (int, error) {
	p, written := s.x.plan, 0
	for len(b) > 0 {
		if s.pos == p.stallAfter {
			s.flush()
			s.x.park()
			p.stallAfter = -1
		}
		if s.pos == p.cutAfter {
			s.cut()
		}
		if s.pos == p.length {
			return written, http.ErrContentLength
		}
		k := int64(len(b))
		for _, at := range []int64{p.stallAfter, p.cutAfter, p.length} {
			if at > s.pos {
				k = min(k, at-s.pos)
			}
		}
		for _, pace := range s.paces {
			k = min(k, pace.Chunk())
		}
		k, paced, err := s.x.hub.line.Pass(s.x.ctx, s.conn, k)
		if err != nil {
			return written, err
		}
		for _, pace := range s.paces {
			if err := pace.Wait(s.x.ctx, k); err != nil {
				return written, err
			}
		}
		if s.sent != nil {
			s.sent.Add(k) // before: who has the bytes may look at the count
		}
		n, err := s.x.w.Write(b[:k])
		if s.sent != nil {
			s.sent.Add(int64(n) - k)
		}
		written += n
		s.pos += int64(n)
		if err != nil {
			return written, err
		}
		if paced || s.paces != nil {
			s.flush()
		}
		b = b[n:]
	}
	return written, s.x.ctx.Err()
}

// cut breaks the connection behind what was written.
func (s *sink) cut() {
	s.flush()
	if s.x.plan.reset {
		s.conn.Reset()
	}
	s.x.abort()
}
