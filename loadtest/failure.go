package loadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// A failure is why a pull or a request went wrong: a kind to count by, and the
// whole of it to read. The kinds are
//
//	status N             an answer that is not the one asked for
//	short body           the connection ended before the body did
//	wrong digest         a whole body with other bytes than were asked for
//	wrong length         a body of another length than the manifest says
//	wrong range          a 206 of other bytes than were asked for
//	bad answer           neither HTTP nor a manifest
//	timeout              the pull's own
//	connection refused, connection reset, connection closed, network
//	interrupted          the run was ended
//	left                 the client hung up, as it was to: no failure of a pull
//	out of descriptors, out of ports, not local
//	                     the tool's own
type failure struct {
	kind string
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// failed returns a failure of that kind.
func failed(kind, format string, args ...any) error {
	return &failure{kind, fmt.Errorf(format, args...)}
}

// errTimeout and errInterrupted are the causes of a pull's context's end.
var (
	errTimeout     = errors.New("the pull's time is over")
	errInterrupted = errors.New("the run was ended")
	errLeft        = errors.New("the client left, as it was to")
)

// kindOf tells failures apart. ctx is the pull's: whatever a connection says after
// its end, the end is the reason.
func kindOf(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, errTimeout):
			return "timeout"
		case errors.Is(cause, errLeft):
			return "left"
		case errors.Is(cause, errInterrupted):
			return "interrupted"
		}
	}
	var f *failure
	if errors.As(err, &f) {
		return f.kind
	}
	for _, k := range []struct {
		err  error
		kind string
	}{
		{errRemote, "not local"},
		{syscall.EMFILE, "out of descriptors"},
		{syscall.ENFILE, "out of descriptors"},
		{syscall.EADDRNOTAVAIL, "out of ports"},
		{syscall.ECONNREFUSED, "connection refused"},
		{syscall.ECONNRESET, "connection reset"},
		{syscall.EPIPE, "connection reset"},
		{io.EOF, "connection closed"},
		{io.ErrUnexpectedEOF, "short body"},
		{os.ErrDeadlineExceeded, "timeout"},
	} {
		if errors.Is(err, k.err) {
			return k.kind
		}
	}
	return "network"
}
