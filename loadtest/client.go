package loadtest

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A client is one host's engine for the time of one pull: its connections, its
// token, its pace.
type client struct {
	*run
	profile
	id     int
	job    Job
	target Target
	base   *url.URL // of the target
	random *rand.Rand
	ctx    context.Context // of the pull
	cancel context.CancelCauseFunc
	verify bool
	pace   *pace        // nil: as fast as it can
	leave  atomic.Int64 // bytes of layers until it hangs up; math.MaxInt64 if it stays

	idle     chan *conn // to the target, unused right now
	requests atomic.Int64
	bytes    atomic.Int64
	first    atomic.Int64 // nanoseconds until the first byte of the first layer, from its request
	claims   []claim      // layers got in ranges, to be judged at the end
	mu       sync.Mutex   // guards token and claims
	token    string
}

// A request is what one exchange asks.
type request struct {
	kind      string // as in Measurement.Requests
	method    string
	path      string // on the target, below /v2/, or
	url       *url.URL
	mediaType string // what the manifest says of it
	manifest  bool   // Accept lists are sent
	span      string // "bytes=0-"; "" asks for all
	header    []string
	body      io.Reader // of a push
	length    int64
}

// An exchange is a request under way, from which the body is read. It ends with
// end, which counts it.
type exchange struct {
	*answer
	client *client
	result result
	body   int64 // bytes read
}

// do sends q and returns the head of its answer: a token is fetched if one is asked
// for, redirects are followed. The status is the caller's to judge.
func (c *client) do(q request) (*exchange, error) {
	target := q.url
	if target == nil {
		target = c.url(q.path)
	}
	asked := false
	for hops := 0; ; hops++ {
		x, err := c.once(q, target)
		if err != nil {
			return nil, err
		}
		switch code := x.StatusCode; {
		case code == http.StatusUnauthorized && !asked && q.body == nil:
			asked = true
			challenge := x.Header.Get("Www-Authenticate")
			x.skip()
			ok, err := c.authorize(challenge)
			if err != nil {
				return nil, err
			}
			if !ok {
				return nil, failed("status 401", "%s %s: 401 with the challenge %q", q.method, target, challenge)
			}
		case isRedirect(code) && q.body == nil && hops < maxHops:
			next, err := target.Parse(x.Header.Get("Location"))
			x.skip()
			if err != nil || next.Host == "" || next.Scheme != "http" && next.Scheme != "https" {
				return nil, failed("bad answer", "%s %s: %d to %q, which is no place", q.method, target, code, x.Header.Get("Location"))
			}
			target = next
		default:
			return x, nil
		}
	}
}

// maxHops bounds the redirects that a request follows; real ones have one.
const maxHops = 5

func isRedirect(code int) bool {
	switch code {
	case 301, 302, 303, 307, 308:
		return true
	}
	return false
}

// url returns where path, of the distribution API, is on the target.
func (c *client) url(path string) *url.URL {
	u := *c.base
	u.Path += "/v2/" + path
	if c.ns && c.target.Namespace != "" && path != "" {
		u.RawQuery = "ns=" + url.QueryEscape(c.target.Namespace)
	}
	return &u
}

// once is one exchange. A connection that was kept and turns out to be closed is
// not the server's fault: it is tried again on a new one, as all clients do.
func (c *client) once(q request, target *url.URL) (*exchange, error) {
	x := &exchange{client: c, result: result{kind: q.kind, method: q.method, url: target, out: q.length}}
	c.requests.Add(1)
	x.result.began = time.Now()
	for {
		k, err := c.connection(target)
		if err == nil {
			if err = c.send(k, q, target); err == nil {
				x.answer, err = k.answer(q.method)
			}
			if err != nil {
				k.Close()
				if k.used && q.body == nil && c.ctx.Err() == nil {
					continue
				}
			}
		}
		if err != nil {
			err = c.broken(err, q.method+" "+target.String())
			x.result.err = err
			x.result.latency = time.Since(x.result.began)
			c.record(x.result)
			return nil, err
		}
		x.result.code = x.StatusCode
		if q.method == "HEAD" {
			x.whole = true
		}
		return x, nil
	}
}

// broken names what happened to a connection.
func (c *client) broken(err error, doing string) error {
	kind := kindOf(c.ctx, err)
	if kind == "network" && strings.Contains(err.Error(), "malformed HTTP") {
		kind = "bad answer"
	}
	if kind == "short body" { // in a head, not a body
		kind = "connection closed"
	}
	return failed(kind, "%s: %w", doing, err)
}

// connection returns an idle connection to where u is, or a new one.
func (c *client) connection(u *url.URL) (*conn, error) {
	idle := c.idle
	if u.Host != c.base.Host || u.Scheme != c.base.Scheme {
		idle = nil
	}
	select {
	case k := <-idle:
		return k, nil
	default:
	}
	if k, err := c.slots.take(c.ctx, idle); k != nil || err != nil {
		return k, err
	}
	buffer := c.buffer
	if c.pace != nil {
		buffer = slowBuffer
	}
	n, err := dial(c.ctx, hostPort(u), u.Scheme == "https", c.storm.AllowRemote, buffer)
	if err != nil {
		c.slots.give()
		return nil, err
	}
	return newConn(c.ctx, n, u.Host, c.slots.give), nil
}

// slowBuffer is the kernel's receive buffer of a slow client, in bytes: with the
// usual one, of megabytes, the server would not notice that a client is slow.
const slowBuffer = 32 << 10

// hostPort returns the address to dial.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// send writes q's head, and its body if it has one.
func (c *client) send(k *conn, q request, u *url.URL) error {
	var b strings.Builder
	b.WriteString(q.method + " " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host + "\r\nUser-Agent: " + c.agent + "\r\n")
	if q.manifest {
		for _, line := range c.accept(c.rand(), q.method, q.mediaType) {
			b.WriteString("Accept: " + line + "\r\n")
		}
	}
	if u.Host == c.base.Host {
		if token := c.bearer(); token != "" {
			b.WriteString("Authorization: Bearer " + token + "\r\n")
		}
	}
	if q.method == "GET" {
		b.WriteString("Accept-Encoding: " + c.encoding + "\r\n")
	}
	if q.span != "" {
		b.WriteString("Range: " + q.span + "\r\n")
	}
	for _, line := range q.header {
		b.WriteString(line + "\r\n")
	}
	if q.body != nil || q.method == "POST" || q.method == "PUT" {
		b.WriteString("Content-Length: " + strconv.FormatInt(q.length, 10) + "\r\n")
	}
	if c.profile.close {
		b.WriteString("Connection: close\r\n")
	}
	b.WriteString("\r\n")
	if _, err := io.WriteString(k, b.String()); err != nil {
		return err
	}
	if q.body == nil {
		return nil
	}
	_, err := io.CopyN(k, q.body, q.length)
	return err
}

// rand returns a source for the next few draws: requests of one client run side by
// side, and one of its own keeps them independent.
func (c *client) rand() *rand.Rand {
	return rand.New(rand.NewPCG(c.seed^uint64(c.id), uint64(c.requests.Load())))
}

// read streams the body, up to limit bytes, through sink, at the client's pace,
// and counts.
func (x *exchange) read(limit int64, sink func([]byte), layer bool) error {
	c := x.client
	source := x.Header.Get("X-Registryd-Source")
	err := x.stream(limit, c.pace.step(), sink, func(n int) error {
		x.body += int64(n)
		if x.result.kind != "token" { // which is not content
			c.bytes.Add(int64(n))
			c.received.Add(int64(n))
		}
		if layer && c.leave.Load() != stays && c.leave.Add(-int64(n)) <= 0 {
			c.cancel(errLeft)
			return errLeft
		}
		return c.pace.wait(c.ctx, n)
	})
	if x.body > 0 {
		x.result.source = source
	}
	if err != nil {
		err = failed(kindOf(c.ctx, err), "GET %s: after %d bytes of %d: %w", x.result.url, x.body, x.ContentLength, err)
	}
	return err
}

// all reads the whole body, which must not have more than limit bytes.
func (x *exchange) all(limit int64) ([]byte, error) {
	if x.ContentLength > limit {
		return nil, failed("bad answer", "GET %s: a body of %d bytes, more than %d", x.result.url, x.ContentLength, limit)
	}
	body := make([]byte, 0, max(x.ContentLength, 512))
	err := x.read(limit+1, func(b []byte) { body = append(body, b...) }, false)
	if err == nil && int64(len(body)) > limit {
		err = failed("bad answer", "GET %s: a body of more than %d bytes", x.result.url, limit)
	}
	return body, err
}

// end counts the exchange, with the error that it ended with, and lets the
// connection go.
func (x *exchange) end(err error) error {
	x.close()
	x.result.in = x.body
	x.result.latency = time.Since(x.result.began)
	x.result.err = err
	x.client.record(x.result)
	k := x.c
	if err == nil && x.keep() && !x.client.profile.close && k.host == x.client.base.Host {
		k.used = true
		select {
		case x.client.idle <- k:
			return nil
		default:
		}
	}
	k.Close()
	return err
}

// skip ends an exchange whose body says nothing; a short one is read, so that the
// connection can go on.
func (x *exchange) skip() {
	if !x.whole {
		x.stream(chunk, chunk, func([]byte) {}, func(int) error { return nil })
	}
	x.end(nil)
}

// refuse ends an exchange with a status that was not hoped for, and says so with
// the beginning of its body.
func (x *exchange) refuse() error {
	var text []byte
	if !x.whole {
		x.stream(maxErrorText, chunk, func(b []byte) { text = append(text, b...) }, func(int) error { return nil })
	}
	err := failed("status "+strconv.Itoa(x.StatusCode), "%s %s: %d: %q", x.result.method, x.result.url, x.StatusCode, text)
	return x.end(err)
}

// maxErrorText is how much of an error's body goes into an example, in bytes.
const maxErrorText = 200

// closeIdle ends what connections are left at a pull's end.
func (c *client) closeIdle() {
	for {
		select {
		case k := <-c.idle:
			k.Close()
		default:
			return
		}
	}
}
