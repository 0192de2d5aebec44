package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"hostlocal/cmd/testdeps/need"
)

// host is a machine of the test: systemd is its first process, and registryd
// is installed as systemd/registryd.service says. It shares the loopback with
// the tests, so its ports and the hub are where they always are.
type host struct {
	*process
	t      *testing.T
	root   string
	leader string // process id of its systemd, as seen from the tests
}

// bootHost boots a host and returns when its systemd says that it is up.
func bootHost(t *testing.T) *host {
	t.Helper()
	nspawn := need.Binary(t, "systemd-nspawn")
	need.Binary(t, "nsenter")
	tar := need.Booted.Tar(t)
	h := &host{t: t, root: filepath.Join(scratch(t), "host")}
	if err := os.Mkdir(h.root, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "tar", "-C", h.root, "-xf", tar)
	h.install("/usr/local/bin/registryd", 0o755, readFile(t, filepath.Join(os.Getenv(workKey), "registryd")))
	h.install("/usr/local/bin/crane", 0o755, readFile(t, need.Binary(t, "crane")))
	h.install("/etc/ssl/hub.crt", 0o644, readFile(t, trustFile(t)))
	h.install("/etc/default/registryd", 0o600, []byte("SSL_CERT_FILE=/etc/ssl/hub.crt\n"))
	for _, unit := range []string{"registryd.service", "registryd.socket"} {
		h.install("/etc/systemd/system/"+unit, 0o644, readFile(t, "../../../systemd/"+unit))
	}
	h.process = start(t, nil, nspawn, "--directory="+h.root, "--boot", "--register=no", "--keep-unit",
		"--console=pipe", "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--bind-ro=/etc/hosts")
	h.ready(func() error {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", h.cmd.Process.Pid))
		if h.leader = strings.TrimSpace(string(children)); h.leader == "" {
			return fmt.Errorf("no child of systemd-nspawn yet: %w", err)
		}
		out, err := h.try("systemctl", "is-system-running", "--wait")
		if state := strings.TrimSpace(out); state != "running" && state != "degraded" {
			return fmt.Errorf("the host is %q: %w", state, err)
		}
		return nil
	})
	return h
}

func (h *host) install(path string, mode os.FileMode, content []byte) {
	h.t.Helper()
	file := filepath.Join(h.root, path)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(file, content, mode); err != nil {
		h.t.Fatal(err)
	}
}

func readFile(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// try runs a command on the host.
func (h *host) try(args ...string) (string, error) {
	return try(h.t, nil, "nsenter", append([]string{"--target=" + h.leader, "--all", "--wdns=/"}, args...)...)
}

func (h *host) do(args ...string) string {
	h.t.Helper()
	out, err := h.try(args...)
	if err != nil {
		journal, _ := h.try("journalctl", "--no-pager", "--lines=50", "--unit=registryd.service", "--unit=registryd.socket")
		h.t.Fatalf("on the host, %q: %v\n%s\n%s", args, err, out, journal)
	}
	return strings.TrimSpace(out)
}

// show is a property of registryd.service.
func (h *host) show(property string) string {
	h.t.Helper()
	return h.do("systemctl", "show", "--value", "--property="+property, "registryd.service")
}

func (h *host) showInt(property string) int {
	h.t.Helper()
	n, err := strconv.Atoi(h.show(property))
	if err != nil {
		h.t.Fatalf("%s: %v", property, err)
	}
	return n
}

// signal sends a signal to the daemon's main process.
func (h *host) signal(name string) {
	h.t.Helper()
	h.do("systemctl", "kill", "--kill-whom=main", "--signal="+name, "registryd.service")
}

// kill ends the daemon as a crash would, and returns when it is gone. systemd
// starts it again a second later.
func (h *host) kill() {
	h.t.Helper()
	pid := h.show("MainPID")
	h.signal("SIGKILL")
	h.ready(func() error {
		if h.show("MainPID") == pid {
			return fmt.Errorf("process %s is still there", pid)
		}
		return nil
	})
}

// pull reads every byte of an image from the registry, on the host.
func (h *host) pull(image string) {
	h.t.Helper()
	h.do("crane", "pull", "--insecure", "--format=oci", "127.0.0.1:5000/"+image, "/tmp/"+filepath.Base(scratch(h.t)))
}
