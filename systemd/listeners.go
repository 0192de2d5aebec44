package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/coreos/go-systemd/v22/activation"
)

// Listeners returns the sockets that the manager opened for this process, by the
// FileDescriptorName= of their socket unit; nil if there are none. The caller
// closes them. A descriptor that is not a listening stream socket is an error,
// and then all are closed: a socket unit that is silently ignored would leave
// clients waiting on a backlog that nobody reads.
//
// It may be called once: the environment that names the sockets is consumed, so
// that no child takes them for its own.
func Listeners() (map[string][]net.Listener, error) {
	return listeners(activation.Files(true))
}

func listeners(files []*os.File) (map[string][]net.Listener, error) {
	var failed []error
	var named map[string][]net.Listener
	for _, f := range files {
		l, err := net.FileListener(f) // a duplicate: f is closed either way
		if err != nil {
			failed = append(failed, fmt.Errorf("inherited socket %q is not a listening stream socket (ListenStream= is wanted): %w", f.Name(), err))
		} else {
			if named == nil {
				named = map[string][]net.Listener{}
			}
			named[f.Name()] = append(named[f.Name()], l)
		}
		f.Close()
	}
	if failed == nil {
		return named, nil
	}
	for _, ls := range named {
		for _, l := range ls {
			l.Close()
		}
	}
	return nil, errors.Join(failed...)
}
