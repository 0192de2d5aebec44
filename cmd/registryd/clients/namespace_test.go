package clients

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"hostlocal/cmd/testdeps/need"
)

// The test binary starts itself twice: on the host it builds registryd and
// makes the namespaces; as process 1 in there it prepares them and reaps; the
// third runs the tests.
const (
	stageKey = "CLIENTS_TEST_STAGE"
	// workKey names the folder of the whole run. The host's stage removes it
	// when the namespaces, and so all mounts below it, are gone; t.TempDir
	// would be removed with a layer still mounted.
	workKey = "CLIENTS_TEST_WORK"
)

// hosts are the names that the fake hub answers to.
var hosts = []string{"registry-1.docker.io", "auth.docker.io", "index.docker.io", "docker.io", "ghcr.io"}

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run()) // each test skips, saying that it needs root
	}
	switch os.Getenv(stageKey) {
	case "":
		err := onHost()
		if errors.Is(err, syscall.EPERM) {
			refused = err // root of a container that may not: each test skips
			os.Exit(m.Run())
		}
		os.Exit(status(err))
	case "init":
		os.Exit(status(asInit()))
	default:
		flag.Set("test.parallel", "6") // those in parallel wait more than they work; -parallel overrides it
		os.Exit(m.Run())
	}
}

// refused is why there are no namespaces, if there are none.
var refused error

// inNamespaces skips the test unless it runs in the namespaces.
func inNamespaces(t *testing.T) {
	t.Helper()
	need.Root(t)
	if refused != nil {
		need.Missing(t, "namespaces", fmt.Sprintf("%v; run on the host, or in a privileged container", refused))
	}
}

// status turns the end of the next stage into an exit status.
func status(err error) int {
	if err == nil {
		return 0
	}
	if exit, ok := err.(*exec.ExitError); ok && exit.Exited() {
		return exit.ExitCode()
	}
	fmt.Fprintln(os.Stderr, "clients:", err)
	return 1
}

// onHost builds the binary while modules can still be downloaded and runs the
// rest in new namespaces.
func onHost() error {
	work, err := os.MkdirTemp("", "registryd-clients-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	// For the build within Docker, which wants all that go.mod names. Offline,
	// that test fails, and need not take the others with it.
	exec.Command("go", "mod", "download").Run()
	build := exec.Command("go", "build", "-o", filepath.Join(work, "registryd"), "hostlocal/cmd/registryd")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building registryd: %w\n%s", err, out)
	}
	// The kernel kills the child when the thread that made it ends: it must
	// not end before the tests do.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	next := again("init", workKey+"="+work)
	next.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	return next.Run()
}

// again is this program for the next stage.
func again(stage string, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(append(os.Environ(), env...), stageKey+"="+stage)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

// asInit prepares the namespaces, then reaps whatever engines leave behind
// until the tests are through. Its own end ends every process in here.
func asInit() error {
	if err := prepare(os.Getenv(workKey)); err != nil {
		return fmt.Errorf("preparing the namespaces: %w", err)
	}
	tests := again("tests")
	if err := tests.Start(); err != nil {
		return err
	}
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return err
		case pid == tests.Process.Pid && ws.Exited():
			os.Exit(ws.ExitStatus())
		case pid == tests.Process.Pid:
			return fmt.Errorf("the tests ended by signal %s", ws.Signal())
		}
	}
}

// prepare makes mounts private, gives the engines a /proc and a /run of their
// own, brings up the loopback and lets the hub's names lead to it.
func prepare(work string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	if err := unix.Mount("run", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	names := "127.0.0.1 localhost " + strings.Join(hosts, " ") + "\n"
	for file, text := range map[string]string{"/etc/hosts": names, "/etc/resolv.conf": "nameserver 127.0.0.1\n"} {
		own := filepath.Join(work, filepath.Base(file))
		if err := os.WriteFile(own, []byte(text), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(own, file, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return loopbackUp()
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}
