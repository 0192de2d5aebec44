package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

const (
	// backoffFirst and backoffMost are the pauses after attempts that failed: twice
	// as long each time. A receiver that restarts misses a second, one that is down
	// for the night is asked once a minute.
	backoffFirst = time.Second
	backoffMost  = time.Minute

	// refusals is how often an event that the endpoint does not take is sent before
	// it is given up: half a minute, in which a receiver's own deploy is over. It must
	// not hold up those behind it for longer.
	refusals = 5

	// maxAnswer bounds what is read of an answer, in bytes, for the connection to be
	// used again. What it says is nobody's concern.
	maxAnswer = 64 << 10
)

// newClient returns the client for all endpoints. Redirects are not followed: a
// receiver, or whoever answers in its place, would choose what this host connects
// to, and with a body that is signed.
func newClient(t http.RoundTripper) *http.Client {
	if t == nil {
		t = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DisableCompression:     true,
			MaxIdleConnsPerHost:    1, // each endpoint has one request at a time
			MaxIdleConns:           MaxEndpoints,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		}
	}
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// A sender gives one endpoint its events, in their order and one a request: the stock
// registry sends them so, and there are receivers that read the first of the list.
type sender struct {
	endpoint Endpoint
	place    int // among the endpoints
	bit      mask
	queue    *queue
	client   *http.Client
	observe  func(endpoint, result string)
	log      *slog.Logger

	mu      sync.Mutex // guards what follows
	sent    int64
	refused int64
	trouble error     // the last failure, until a success
	since   time.Time // of the trouble
}

// run delivers until stop is closed; ctx ends what is under way.
func (s *sender) run(ctx context.Context, stop <-chan struct{}) {
	defer s.client.CloseIdleConnections()
	for {
		select {
		case <-stop:
			return
		default:
		}
		if x := s.queue.first(s.bit); x != nil {
			s.deliver(ctx, stop, x)
			continue
		}
		select {
		case <-s.queue.wakes[s.place]:
		case <-stop:
			return
		}
	}
}

// deliver sends one event until the endpoint has it, or is not to have it any more.
func (s *sender) deliver(ctx context.Context, stop <-chan struct{}, x *entry) {
	for failed := 1; ; failed++ {
		err := s.post(ctx, x.body)
		if err != nil && ctx.Err() != nil {
			return // a shutdown: the next process sends it
		}
		s.note(err)
		var a *answerError
		switch {
		case err == nil:
			s.observe(s.endpoint.Name, Sent)
			s.queue.done(x, s.place)
			return
		case errors.As(err, &a) && a.aboutEvent() && failed >= refusals:
			s.observe(s.endpoint.Name, Refused)
			s.giveUp(x, err)
			return
		}
		s.observe(s.endpoint.Name, Failed)
		pause := time.NewTimer(backoff(failed, a))
		select {
		case <-pause.C:
		case <-stop:
			pause.Stop()
			return
		}
		if !s.queue.waits(x, s.bit) {
			return // dropped meanwhile
		}
	}
}

// giveUp lets go of an event that the endpoint refuses. It answers, so it is not in
// trouble any more.
func (s *sender) giveUp(x *entry, err error) {
	s.mu.Lock()
	s.refused++
	s.trouble = nil
	s.mu.Unlock()
	s.queue.done(x, s.place)
	s.log.Warn("an event is given up: the webhook refuses it", "err", err, "tries", refusals)
}

// note keeps how the last attempt went; the log hears of the first that fails and of
// the next that does not.
func (s *sender) note(err error) {
	s.mu.Lock()
	before := s.trouble
	switch {
	case err == nil:
		s.sent++
	case before == nil:
		s.since = time.Now()
	}
	s.trouble = err
	s.mu.Unlock()
	switch {
	case err == nil && before != nil:
		s.log.Info("the webhook takes events again")
	case err != nil && before == nil:
		s.log.Warn("the webhook does not take events; they wait", "err", err)
	}
}

// post makes one attempt. The error does not have the URL, which may be a secret.
func (s *sender) post(ctx context.Context, event []byte) error {
	ctx, cancel := context.WithTimeout(ctx, s.endpoint.Timeout)
	defer cancel()
	body := bytes.Join([][]byte{[]byte(`{"events":[`), event, []byte(`]}`)}, nil)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.endpoint.URL, bytes.NewReader(body))
	if err != nil {
		return plain(err)
	}
	r.Header.Set("User-Agent", "registryd")
	for name, value := range s.endpoint.Headers {
		r.Header.Set(name, value)
	}
	r.Header.Set("Content-Type", mediaType)
	if s.endpoint.Secret != "" {
		r.Header.Set(SignatureHeader, sign(s.endpoint.Secret, body))
	}
	res, err := s.client.Do(r)
	if err != nil {
		return plain(err)
	}
	defer res.Body.Close()
	io.CopyN(io.Discard, res.Body, maxAnswer) // the status has said it; this is for the connection
	if res.StatusCode/100 == 2 {
		return nil
	}
	return &answerError{status: res.StatusCode, location: res.Header.Get("Location"), after: retryAfter(res)}
}

// plain returns what is wrong, without the URL.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// An answerError is an answer other than 2xx.
type answerError struct {
	status   int
	location string
	after    time.Duration // what Retry-After asks for, at most backoffMost; 0: nothing
}

func (e *answerError) Error() string {
	text := fmt.Sprintf("it answers %d %s", e.status, http.StatusText(e.status))
	switch {
	case e.status/100 == 3 && e.location != "":
		return text + " to " + strconv.Quote(bounded(e.location)) + ", which is not followed: write the address that it leads to as url"
	case e.status == http.StatusUnauthorized || e.status == http.StatusForbidden:
		return text + ": check the secret and the headers"
	case e.status == http.StatusNotFound || e.status == http.StatusMethodNotAllowed:
		return text + ": check the url"
	}
	return text
}

// aboutEvent reports whether the endpoint has something against this event rather
// than against the way that it was sent, or the moment. Those about the right and
// the address are mistakes of the configuration, here or there, which somebody
// mends; the events wait for that.
func (e *answerError) aboutEvent() bool {
	switch e.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusProxyAuthRequired,
		http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return e.status/100 == 4
}

// backoff is the pause after as many failures, jittered so that a fleet does not
// come back at the same moment; a is what the last answer was, if it was one.
func backoff(failed int, a *answerError) time.Duration {
	d := backoffMost
	if shift := failed - 1; shift < 6 {
		d = min(backoffFirst<<shift, backoffMost)
	}
	d = d/2 + rand.N(d/2)
	if a != nil {
		d = max(d, a.after)
	}
	return d
}

// retryAfter returns for how long the endpoint asks to be left alone, as far as it
// is heard; a date is not
// read, since clocks differ.
func retryAfter(res *http.Response) time.Duration {
	n, err := strconv.Atoi(res.Header.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(min(n, int(backoffMost/time.Second))) * time.Second
}
