package s3store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"
)

// ErrPrecondition says that the condition of a conditional request did not hold,
// or that another conditional write to the same key was under way (409 from AWS).
// Either way: read what is there now, then decide.
var ErrPrecondition = errors.New("the object is not in the state that the request demanded")

// An Error is a store's answer that is not a success, or the lack of an answer.
// It is the one place that tells "again" from "never".
type Error struct {
	Op         string        // the method of Bucket, in lower case: "get"
	Key        string        // the object, prefix included
	Status     int           // HTTP status; 0 if there was no answer
	Code       string        // S3's code, for people only: stores disagree about them
	Retry      bool          // the same request may succeed a little later
	RetryAfter time.Duration // how long the store asked to wait; 0 if it did not say
	Err        error         // what lies beneath, may be nil
}

func (e *Error) Error() string {
	s := fmt.Sprintf("store: %s %q", e.Op, e.Key)
	if e.Status != 0 {
		s += fmt.Sprintf(": %d %s", e.Status, http.StatusText(e.Status))
	}
	if e.Code != "" {
		s += " (" + e.Code + ")"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Temporary reports whether the same request may succeed a little later. When that
// lasts the Store says so in its log; callers need not.
func (e *Error) Temporary() bool { return e.Retry }

// Unwrap gives the meaning of the status and the cause.
func (e *Error) Unwrap() []error {
	var errs []error
	switch e.Status {
	case http.StatusNotFound:
		errs = append(errs, fs.ErrNotExist)
	case http.StatusForbidden, http.StatusUnauthorized:
		errs = append(errs, fs.ErrPermission)
	case http.StatusRequestedRangeNotSatisfiable:
		errs = append(errs, fs.ErrInvalid)
	case http.StatusPreconditionFailed:
		errs = append(errs, ErrPrecondition)
	}
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	return errs
}

// newError classifies by status. Codes are not used for it, but for the one
// condition that S3 hides behind a status that also means "never":
// RequestTimeout, a 400 that says that the body was too slow.
//
// conditional tells which 409 is meant: a conflict with another conditional
// write, or an operation that is under way.
//
// Whether the caller gave up is asked of its context: errors of net and net/http
// claim to be context.DeadlineExceeded when it was their own timer that ran out.
func newError(ctx context.Context, op, key string, status int, code string, conditional bool, cause error) *Error {
	e := &Error{Op: op, Key: key, Status: status, Code: code, Err: cause}
	gone := ctx.Err()
	switch {
	case gone != nil && !errors.Is(cause, gone):
		e.Err = errors.Join(gone, cause)
	case gone == nil && (errors.Is(cause, context.DeadlineExceeded) || errors.Is(cause, context.Canceled)):
		e.Err = errors.New(cause.Error())
	}
	switch {
	case gone != nil:
		// Not the store's fault, and nobody is left to try again for.
	case status == 0, status < 300:
		// No answer, or one whose body broke or contradicted its status.
		e.Retry = true
	case status == http.StatusConflict && conditional:
		e.Status = http.StatusPreconditionFailed
	case status == http.StatusConflict, status == http.StatusRequestTimeout, status == http.StatusTooManyRequests,
		status == http.StatusBadRequest && code == "RequestTimeout",
		status >= 500 && status != http.StatusNotImplemented && status != http.StatusHTTPVersionNotSupported:
		e.Retry = true
	}
	return e
}

// invalid is the error for a request that no store could serve.
func invalid(op, key, format string, args ...any) error {
	return &Error{Op: op, Key: key, Status: http.StatusBadRequest, Code: "InvalidArgument", Err: fmt.Errorf(format, args...)}
}
