package loadtest

import (
	"os"
	"strconv"
	"strings"
)

const (
	// socketShare is the share of the memory at which the kernel begins to save on
	// TCP that clients' receive buffers may take. The servers' send buffers are on
	// the same machine and want as much, and so does who else is on it.
	socketShare = 0.25

	// A receive buffer within these bounds, in bytes, keeps a loopback connection
	// busy; the kernel takes twice of it.
	leastBuffer = 32 << 10
	mostBuffer  = 1 << 20
)

// receiveBuffer returns the receive buffer for each of so many connections, or 0 if
// the kernel's own way needs no bound.
//
// The kernel lets a buffer grow to megabytes for a reader that falls behind, which
// is right for one and not for thousands: when all of TCP's memory is in use it
// drops packets, and the connections that this hits wait out timeouts of seconds
// that no fleet would have seen (tcp(7), tcp_mem). A thousand clients of 24 MiB on
// two cores came to 14,000 of them.
func receiveBuffer(connections int) int {
	memory, largest := sysctl("tcp_mem", 0)*int64(os.Getpagesize()), sysctl("tcp_rmem", 2)
	share := int64(float64(memory) * socketShare)
	if memory <= 0 || share >= int64(connections)*largest {
		return 0
	}
	return int(min(max(share/2/int64(connections), leastBuffer), mostBuffer))
}

// sysctl returns the field of a setting of net.ipv4, or 0.
func sysctl(name string, field int) int64 {
	text, err := os.ReadFile("/proc/sys/net/ipv4/" + name)
	fields := strings.Fields(string(text))
	if err != nil || len(fields) <= field {
		return 0
	}
	n, _ := strconv.ParseInt(fields[field], 10, 64) // 0 if it is none
	return n
}

// memoryPressures is how often the kernel has run short of memory for TCP since the
// machine began.
func memoryPressures() int64 {
	text, err := os.ReadFile("/proc/net/netstat")
	if err != nil {
		return 0
	}
	lines := strings.Split(string(text), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for j, name := range names {
			if name == "TCPMemoryPressures" && j < len(values) {
				n, _ := strconv.ParseInt(values[j], 10, 64)
				return n
			}
		}
	}
	return 0
}
