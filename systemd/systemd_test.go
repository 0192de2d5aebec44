package systemd

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"hostlocal/cmd/testdeps/need"
)

// manager is the service manager's end of NOTIFY_SOCKET.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func newManager(t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return &manager{t, conn}
}

// told returns the next message, or "" if none comes within d.
func (m *manager) told(d time.Duration) string {
	m.t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(d))
	buf := make([]byte, 4096)
	n, err := m.conn.Read(buf)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		m.t.Fatal(err)
	}
	return string(buf[:n])
}

func TestNotifySendsAllAssignmentsInOneMessage(t *testing.T) {
	m := newManager(t)
	if err := Notify(Ready, Status("serving\nwell")); err != nil {
		t.Fatal(err)
	}
	if got, want := m.told(5*time.Second), "READY=1\nSTATUS=serving well"; got != want {
		t.Errorf("manager was told %q, want %q", got, want)
	}
}

func TestNothingHappensWithoutManager(t *testing.T) {
	for _, key := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID"} {
		t.Setenv(key, "")
	}
	if err := Notify(Ready); err != nil {
		t.Error(err)
	}
	if err := Watchdog(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if got, err := Listeners(); got != nil || err != nil {
		t.Errorf("inherited %v, %v from nobody", got, err)
	}
}

func TestManagerThatIsGoneIsAnError(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "absent"))
	if err := Notify(Ready); err == nil {
		t.Error("nobody was told, and nobody noticed")
	}
}

func TestWatchdogBeatsOnlyWhileAlive(t *testing.T) {
	m := newManager(t)
	t.Setenv("WATCHDOG_USEC", strconv.Itoa(int((30 * time.Millisecond).Microseconds())))
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	asked := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Watchdog(ctx, func(context.Context) error { return <-asked }) }()

	asked <- nil
	if got := m.told(5 * time.Second); got != "WATCHDOG=1" {
		t.Errorf("alive, and the manager was told %q", got)
	}
	asked <- errors.New("stuck")
	asked <- errors.New("stuck") // asked again, so the first answer has been dealt with
	if got := m.told(time.Millisecond); got != "" {
		t.Errorf("stuck, and the manager was told %q", got)
	}
	asked <- nil
	if got := m.told(5 * time.Second); got != "WATCHDOG=1" {
		t.Errorf("alive again, and the manager was told %q", got)
	}
	cancel()
	close(asked)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestListenersKeepTheirNames(t *testing.T) {
	var files []*os.File
	for _, name := range []string{"http", "admin", "http"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, os.NewFile(uintptr(dup(t, f)), name))
	}
	got, err := listeners(files)
	if err != nil {
		t.Fatal(err)
	}
	if len(got["http"]) != 2 || len(got["admin"]) != 1 {
		t.Errorf("inherited %v, want two http and one admin", got)
	}
	for _, ls := range got {
		for _, l := range ls {
			l.Close()
		}
	}
}

func TestListenersRefuseWhatDoesNotListen(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "plain"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := listeners([]*os.File{os.NewFile(uintptr(dup(t, f)), "http")})
	if got != nil || err == nil || !strings.Contains(err.Error(), "ListenStream=") {
		t.Errorf("a plain file became %v, %v", got, err)
	}
}

// TestUnitsVerify has systemd itself read the unit files: an unknown key in one is
// otherwise only a line in the journal, and the protection is not there.
func TestUnitsVerify(t *testing.T) {
	analyze := need.Binary(t, "systemd-analyze")
	dir := t.TempDir()
	for _, name := range []string{"registryd.service", "registryd.socket"} {
		unit, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		// The binary need not be installed here, and verify wants it to exist.
		unit = []byte(strings.Replace(string(unit), "/usr/local/bin/registryd ", "/bin/true ", 1))
		if err := os.WriteFile(filepath.Join(dir, name), unit, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(analyze, "verify", "--man=no", "--recursive-errors=yes",
		filepath.Join(dir, "registryd.service"), filepath.Join(dir, "registryd.socket")).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// Exposure is in tenths here: 15 is the mark of a service that is confined in every way that it can bear.
	out, err = exec.Command(analyze, "security", "--offline=yes", "--threshold=15",
		filepath.Join(dir, "registryd.service")).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
