package hub

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"hostlocal/loadtest/line"
)

// A Shape is how a hub is in good times: the line before it, and what it asks of
// its clients. The zero value is as fast as the machine and asks nothing.
type Shape struct {
	Latency        time.Duration // from each request to its first byte, at the CDN and the token server too
	ConnectionRate int64         // bytes a second on one connection; 0 is unlimited
	TotalRate      int64         // bytes a second of the hub and its CDN in all; 0 is unlimited
	Token          bool          // a token is asked for, which anybody gets, as on Docker Hub
	CDN            bool          // GETs of blobs are redirected to another port
	Pulls          int           // GETs of manifests before 429; 0 is unlimited
}

// SetShape gives the hub a shape from now on, and all its Pulls. Token brings the
// zero Auth, if nothing was required so far, and takes it back.
func (h *Hub) SetShape(s Shape) {
	h.line.Set(line.Shape{Latency: s.Latency, ConnectionRate: s.ConnectionRate, TotalRate: s.TotalRate})
	h.mu.Lock()
	h.toCDN = s.CDN
	h.limit = limit{of: s.Pulls, left: s.Pulls}
	required, shaped := h.auth != nil, h.auth != nil && h.auth.shaped
	if shaped && !s.Token {
		h.auth = nil
	}
	h.mu.Unlock()
	if s.Token && !required {
		h.require(Auth{}, true)
	}
}

// Play lets faults happen to all of the hub, its CDN and token server included,
// counted from now. Stop is to be called once: it ends those that are at work and
// returns what went wrong with them. Heal does not touch them.
func (h *Hub) Play(faults []line.Fault) (stop func() error, err error) {
	return h.line.Play(faults, whole{h})
}

// whole turns all servers of a hub off and on.
type whole struct{ h *Hub }

func (w whole) Down() error {
	return errors.Join(w.h.main.Down(), w.h.cdn.Down(), w.h.tokens.Down())
}

func (w whole) Up() error { return errors.Join(w.h.main.Up(), w.h.cdn.Up(), w.h.tokens.Up()) }

// limit is Docker Hub's: a number of GETs of manifests in a window of six hours, of
// which no run of this hub sees the end. The hub counts for all clients together,
// as Docker Hub does for those behind one address. HEAD is free.
// https://docs.docker.com/docker-hub/usage/pulls/
type limit struct{ of, left int }

const limitWindow = ";w=21600" // seconds

// withinLimit reports whether a request for a manifest may go on; if not, it has
// been answered.
func (x *exchange) withinLimit() bool {
	x.hub.mu.Lock()
	l := &x.hub.limit
	of, ok := l.of, true
	if of > 0 && x.q.Kind == GetManifest {
		if ok = l.left > 0; ok {
			l.left--
		}
	}
	left := l.left
	x.hub.mu.Unlock()
	if of == 0 {
		return true
	}
	hd := x.w.Header()
	hd.Set("Ratelimit-Limit", strconv.Itoa(of)+limitWindow)
	hd.Set("Ratelimit-Remaining", strconv.Itoa(left)+limitWindow)
	hd.Set("Docker-Ratelimit-Source", "127.0.0.1")
	if !ok {
		x.fail(http.StatusTooManyRequests, "TOOMANYREQUESTS")
	}
	return ok
}
