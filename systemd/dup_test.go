package systemd

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// dup returns f's descriptor as one that nobody else will close, as an inherited
// one is, and closes f.
func dup(t *testing.T, f *os.File) int {
	t.Helper()
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}
