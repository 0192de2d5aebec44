package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"hostlocal/systemd"
)

// The names of inherited sockets, as FileDescriptorName= of a socket unit.
const (
	socketHTTP  = "http"
	socketAdmin = "admin"
)

// sockets are the daemon's open doors. Close them.
type sockets struct{ http, admin []net.Listener }

// openSockets takes over the sockets that systemd opened, and opens what the
// configuration names where there are none. An inherited socket replaces all of
// its key's addresses: the unit is then the one place that says them. One without
// a name of ours is for the registry, which is what a socket unit without
// FileDescriptorName= means.
func openSockets(ctx context.Context, c *config) (_ *sockets, err error) {
	inherited, err := systemd.Listeners()
	if err != nil {
		return nil, err
	}
	s := &sockets{}
	for name, ls := range inherited {
		if name == socketAdmin {
			s.admin = append(s.admin, ls...)
		} else {
			s.http = append(s.http, ls...)
		}
	}
	var failed []error
	for _, key := range []struct {
		name      string
		to        *[]net.Listener
		addresses []string
	}{{"listen", &s.http, c.listen}, {"admin", &s.admin, c.admin}} {
		if len(*key.to) > 0 {
			continue
		}
		for _, address := range key.addresses {
			l, err := openSocket(ctx, address)
			if err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", key.name, err))
				continue
			}
			*key.to = append(*key.to, l)
		}
	}
	if failed != nil {
		s.Close()
		return nil, errors.Join(failed...)
	}
	return s, nil
}

// all returns every socket.
func (s *sockets) all() []net.Listener { return append(s.http[:len(s.http):len(s.http)], s.admin...) }

// Close closes all, so that no new connection gets in.
func (s *sockets) Close() {
	for _, l := range s.all() {
		l.Close() // a second Close, by the server that was given it, is harmless
	}
}

// addresses names the sockets for a person.
func addresses(ls []net.Listener) string {
	var words []string
	for _, l := range ls {
		words = append(words, addressOf(l))
	}
	return strings.Join(words, ", ")
}

// addressOf returns a listener's address in the form of the configuration.
func addressOf(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "unix://" + l.Addr().String()
	}
	return l.Addr().String()
}

// openSocket listens on host:port or unix:///path.
func openSocket(ctx context.Context, address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return openUnix(ctx, path)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%w; is a registry running here already? (registryd status)", err)
	}
	return l, nil
}

// staleTimeout bounds the attempt to reach whoever owns a socket file: a connect
// to a unix socket succeeds or fails at once unless the backlog is full, and a
// full backlog is a live owner.
const staleTimeout = time.Second

// openUnix listens on a socket file, and first removes the one that a killed
// daemon left behind. Its owner and group may connect: on a socket, that is the
// right to pull with this host's credentials.
func openUnix(ctx context.Context, path string) (net.Listener, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s exists and is not a socket; remove it, or name another path", path)
	default:
		d := net.Dialer{Timeout: staleTimeout}
		if conn, err := d.DialContext(ctx, "unix", path); err == nil {
			conn.Close()
			return nil, fmt.Errorf("%s is in use; is a registry running here already? (registryd status)", path)
		} else if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, fmt.Errorf("%s is in use by somebody who does not answer", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("removing the socket of a daemon that is gone: %w", err)
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}
