package child

import "net"

// FreeAddresses returns n addresses of loopback on which nobody listens, a moment
// ago. Whoever uses them must be ready to try again with others.
func FreeAddresses(n int) ([]string, error) {
	all := make([]string, n)
	for i := range all {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // held until all are found, so that they differ
		all[i] = l.Addr().String()
	}
	return all, nil
}

// Taken is what a server says in its log whose address somebody else took first: the
// address, nginx's Address, or MinIO's port.
const Taken = "already in use"
