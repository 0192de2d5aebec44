// Package need finds the programs that tests run against: Go-made servers
// that `go run ./cmd/testdeps build` puts into a cache, and Debian's packages.
//
// A test states what it needs in its first line. If that is missing the test
// is skipped with a message that names the thing and the command that brings
// it, and the skip is noted in the file named by REGISTRYD_TEST_SKIPPED, so
// that `make test` can end with a list of what it did not test. With
// REGISTRYD_TEST_REQUIRE=all, as in CI, a missing thing is a failure.
package need

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// debian names the package of each tool that is not simply called like its
// package.
var debian = map[string]string{
	"dockerd":         "docker.io",
	"docker":          "docker.io",
	"ctr":             "containerd",
	"ip":              "iproute2",
	"unshare":         "util-linux",
	"nsenter":         "util-linux",
	"nginx":           "nginx-light",
	"dpkg-deb":        "dpkg",
	"apt-get":         "apt",
	"systemd-nspawn":  "systemd-container",
	"systemd-analyze": "systemd",
}

// Binary returns the path of the program called name: a server of Servers at
// its pinned version, or a tool of the system. If there is none the test is
// skipped, or fails where everything is required.
func Binary(t testing.TB, name string) string {
	t.Helper()
	path, err := Find(name)
	if err != nil {
		Missing(t, name, err.Error())
	}
	return path
}

// Root skips the test unless it runs as root, which namespaces, mounts and
// container daemons need.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "root", "run the tests as root")
	}
}

// Find returns the path of a program, or an error that says how to get it.
func Find(name string) (string, error) {
	if i := slices.IndexFunc(Servers, func(s Server) bool { return s.Name == name }); i >= 0 {
		dir, err := BinDir()
		if err != nil {
			return "", err
		}
		if !Servers[i].Built(dir) {
			return "", fmt.Errorf("not built at %s; run: go run ./cmd/testdeps build %s", Servers[i].Version, name)
		}
		return filepath.Join(dir, name), nil
	}
	// Debian's own first: somebody's wrapper in /usr/local/bin is not the
	// client that the test is about.
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	pkg := name
	if p, ok := debian[name]; ok {
		pkg = p
	}
	return "", fmt.Errorf("not installed; run as root: apt-get install %s (or: make test-deps)", pkg)
}

// Missing skips the test, or fails it where everything is required, because of
// what is not there; why says how to get it.
func Missing(t testing.TB, what, why string) {
	t.Helper()
	if os.Getenv("REGISTRYD_TEST_REQUIRE") == "all" {
		t.Fatalf("needs %s: %s", what, why)
	}
	note(os.Getenv("REGISTRYD_TEST_SKIPPED"), t.Name(), what, why)
	t.Skipf("needs %s: %s", what, why)
}

// note appends one line to the list of skips. Packages are tested by several
// processes at once: one write to a file opened for appending keeps lines
// whole. A list that cannot be written must not fail the test.
func note(file, test, what, why string) {
	if file == "" {
		return
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintln(f, strings.Join([]string{test, what, why}, "\t"))
}
