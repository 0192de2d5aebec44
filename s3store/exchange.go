package s3store

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// Observe is told of every exchange when its answer's header is there: the
// operation (the method of Bucket in snake case), the HTTP status (0 if none
// came), and how long that took. It is called from several goroutines at once and
// must be quick.
type Observe func(op string, status int, d time.Duration)

// An exchange is one HTTP request and its answer, seen from below the SDK. Both
// SDKs hide the Date, and report the same answer in different words; what came
// over the wire is the same for both, so it is taken there.
//
// It travels in the request's context, from the driver to the wire.
type exchange struct {
	op, key string
	body    *window         // nil: it sends nothing of the caller's
	out     *outgoing       // the same in the last request
	caller  context.Context // ends when the caller loses interest
	ctx     context.Context // ends also when the exchange stalls, with errStalled
	cancel  context.CancelCauseFunc

	status int         // 0 until there is an answer
	header http.Header // of the answer
}

type exchangeKey struct{}

func begin(caller context.Context, op, key string) *exchange {
	x := &exchange{op: op, key: key, caller: caller}
	ctx, cancel := context.WithCancelCause(caller)
	x.cancel = cancel
	x.ctx = context.WithValue(ctx, exchangeKey{}, x)
	return x
}

// end releases the context, and the connection with it if a body is unread.
func (x *exchange) end() { x.cancel(context.Canceled) }

// date is the store's clock at its answer; zero if it has none.
func (x *exchange) date() time.Time {
	t, _ := http.ParseTime(x.header.Get("Date"))
	return t
}

// fail makes the Error out of what the SDK returned and what the wire saw.
func (x *exchange) fail(code string, conditional bool, cause error) error {
	if stalled := context.Cause(x.ctx); errors.Is(stalled, errStalled) {
		cause = stalled
	}
	e := newError(x.caller, x.op, x.key, x.status, code, conditional, cause)
	if x.status >= 400 {
		e.RetryAfter = retryAfter(x.header.Get("Retry-After"), x.date())
	}
	return e
}

// maxRetryAfter bounds how long a store can tell us to stay away. It is kept low:
// whoever calls has other sources.
const maxRetryAfter = time.Minute

func retryAfter(s string, now time.Time) time.Duration {
	d, err := time.ParseDuration(s + "s")
	if at, terr := http.ParseTime(s); terr == nil && !now.IsZero() {
		d, err = at.Sub(now), nil
	}
	if err != nil {
		return 0
	}
	return min(max(d, 0), maxRetryAfter)
}

// wire is the RoundTripper below both SDKs: it fills in the exchange, watches both
// bodies for stalls and tells the observer.
type wire struct {
	base    *http.Transport
	stall   time.Duration
	observe Observe
}

func newWire(c Config) *wire {
	w := &wire{base: newTransport(), stall: c.StallTimeout, observe: c.Observe}
	if w.stall <= 0 {
		w.stall = DefaultStallTimeout
	}
	return w
}

// maxAnswer bounds the answers that an SDK reads whole: a page of 1,000 keys of
// 1,024 bytes, each URL-encoded to three times its length, and as much markup.
const maxAnswer = 16 << 20

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	x, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errors.New("s3store: a request outside any exchange")
	}
	if req.Body != nil && req.Body != http.NoBody {
		req = req.Clone(req.Context())
		x.out = newOutgoing(req.Body, writeStalls*w.stall, x.cancel)
		if x.body != nil && req.ContentLength == x.body.size { // and not wrapped into chunks
			x.out.file = x.body.inFile()
		}
		req.Body = x.out
	}
	start := time.Now()
	x.status, x.header = 0, nil
	resp, err := w.base.RoundTrip(req)
	if err == nil {
		x.status, x.header = resp.StatusCode, resp.Header
		resp.Body = watchReads(resp.Body, w.stall, x.cancel)
		if x.op != "get" || resp.StatusCode >= 300 {
			resp.Body = struct {
				io.Reader
				io.Closer
			}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
		}
	}
	if w.observe != nil {
		w.observe(x.op, x.status, time.Since(start))
	}
	return resp, err
}
