package line

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// hold keeps the port of a server that is down: whoever connects is
// refused, and no other listener of this machine is given it meanwhile, as happens
// within seconds where many tests run. It returns the descriptor of a socket that is
// bound and does not listen, which the caller closes.
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
	if err != nil {
		return 0, fmt.Errorf("holding %s: %w", host, err)
	}
	// Reuse is needed to bind beside connections in TIME_WAIT, and taken back
	// after: while it is on, another listener that has it on gets the port, too.
	steps := []func() error{
		func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) },
		func() error { return unix.Bind(fd, at) },
		func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			unix.Close(fd)
			return 0, fmt.Errorf("holding %s: %w", host, err)
		}
	}
	return fd, nil
}
