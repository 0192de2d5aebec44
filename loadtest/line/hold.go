package line

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenAlone listens on a port that nobody has, and lets hold take it, too.
func listenAlone(host string) (net.Listener, error) {
	l, err := net.Listen("tcp", host)
	if err != nil {
		return nil, err
	}
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err = errors.Join(err, share(raw)); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// listenAgain listens on a port that hold has.
func listenAgain(host string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error { return share(raw) }}
	return config.Listen(context.Background(), "tcp", host)
}

// share lets another socket that says the same have the port as well.
func share(raw syscall.RawConn) error {
	var set error
	err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	return errors.Join(err, set)
}

// hold keeps the port of a server for it, also while that is down: whoever connects
// then is refused, and no other listener of this machine is given the port, as
// happens within seconds where many tests run. It returns the descriptor of a socket
// that is bound and does not listen, which the caller closes. The server's own
// listener must be there, by listenAlone: between its end and its successor's
// beginning there would be a moment in which the port is anybody's.
func hold(host string) (fd int, err error) {
	addr, err := netip.ParseAddrPort(host)
	if err != nil {
		return 0, err
	}
	family, at := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: addr.Addr().As16(), Port: int(addr.Port())})
	if addr.Addr().Is4() {
		family, at = unix.AF_INET, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err == nil {
			err = unix.Bind(fd, at)
		}
		if err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("holding %s: %w", host, err)
	}
	return fd, nil
}
