package target

import "net"

// freeAddress returns an address of loopback on which nobody listens, a moment ago.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// freeAddresses returns two different ones.
func freeAddresses() (registry, admin string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer l.Close() // held, so that the second is another
	admin, err = freeAddress()
	return l.Addr().String(), admin, err
}
