package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// An Error is what a method of Client returns if it has no answer to give. It
// wraps fs.ErrNotExist if the upstream does not have it, fs.ErrPermission if it
// will not give it to us; any other is an outage: see Outage.
type Error struct {
	Upstream   string        // its name
	What       string        // what was asked for: "blob sha256:... of library/app"
	Status     int           // of the answer; 0 if there was none or it was of use to nobody
	Code       string        // the OCI error code of the answer, if it has one
	RetryAfter time.Duration // what the answer asked for; 0: nothing
	Err        error         // what happened, if it was not (only) the status
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "upstream %s: %s", e.Upstream, e.What)
	if e.Status != 0 {
		fmt.Fprintf(&b, ": %d %s", e.Status, http.StatusText(e.Status))
	}
	if e.Code != "" {
		fmt.Fprintf(&b, " (%s)", e.Code)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap returns the class of the error, if it is an answer, and what happened.
func (e *Error) Unwrap() []error {
	var out []error
	switch e.Status {
	case http.StatusNotFound, http.StatusGone:
		out = append(out, fs.ErrNotExist)
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusUnavailableForLegalReasons:
		out = append(out, fs.ErrPermission)
	case http.StatusRequestedRangeNotSatisfiable:
		out = append(out, fs.ErrInvalid)
	}
	if e.Err != nil {
		out = append(out, e.Err)
	}
	return out
}

// Outage reports whether err says that the upstream could not be asked, so that
// what is known from before may stand in for its answer. It is the one place where
// that is decided: a no is not an outage, nor is a caller who left.
func Outage(err error) bool {
	return err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, context.Canceled)
}

// again reports whether the same request may fare better in a moment.
func again(err error) bool {
	var e *Error
	if !errors.As(err, &e) || !Outage(err) || errors.Is(err, errFinal) {
		return false
	}
	switch e.Status {
	case 0, http.StatusTooManyRequests, http.StatusRequestTimeout,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// errFinal is wrapped by outages that another try cannot mend: what the upstream
// says is wrong, not missing.
var errFinal = errors.New("unusable answer")

func final(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errFinal}, args...)...)
}

// fail makes the error of an exchange that brought err.
func (c *Client) fail(a *ask, err error) error {
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	return &Error{Upstream: c.cfg.Name, What: a.what, Err: err}
}

// refuse makes the error of an answer of no use, and closes it.
func (c *Client) refuse(a *ask, resp *http.Response) error {
	defer resp.Body.Close()
	return &Error{Upstream: c.cfg.Name, What: a.what, Status: resp.StatusCode,
		Code: errorCode(resp), RetryAfter: retryAfter(resp.Header, time.Now())}
}

// maxError bounds what is read of an error's body: OCI errors are a few hundred
// bytes, and reading a short body to its end keeps the connection.
const maxError = 16 << 10

// errorCode returns the first code of an answer in OCI form, or nothing.
func errorCode(resp *http.Response) string {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxError))
	var body struct {
		Errors []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	if json.Unmarshal(b, &body) != nil || len(body.Errors) == 0 {
		return ""
	}
	code := body.Errors[0].Code
	for _, r := range code {
		if (r < 'A' || r > 'Z') && r != '_' {
			return ""
		}
	}
	return code[:min(len(code), 64)]
}

// maxRetryAfter bounds what an upstream can make us wait: nobody remembers a
// back-off of more than a minute anyway.
const maxRetryAfter = time.Hour

// retryAfter reads a Retry-After in seconds or as a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if s, err := strconv.ParseInt(v, 10, 32); err == nil {
		return min(max(0, time.Duration(s)*time.Second), maxRetryAfter)
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(0, at.Sub(now)), maxRetryAfter)
	}
	return 0
}
