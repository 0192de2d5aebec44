package child

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Find returns the path of a program: what was given, else what PATH has, else what
// `testdeps build` has put into its cache. name is what --bin calls it. The error
// wraps ErrBinary and says how to get it.
func Find(name, program, given string) (string, error) {
	if given != "" {
		path, err := exec.LookPath(given)
		if err != nil {
			return "", fmt.Errorf("%w for %s: %w", ErrBinary, name, err)
		}
		return filepath.Abs(path)
	}
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", testCache()) {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", fmt.Errorf("%w of %s: %q is not in PATH; say where it is with --bin %s=PATH%s", ErrBinary, name, program, name, remedy[program])
}

// remedy says how to get a program.
var remedy = map[string]string{
	"registry":  ", or build it: go run ./cmd/testdeps build registry",
	"minio":     ", or build it: go run ./cmd/testdeps build minio",
	"versitygw": ", or build it: go run ./cmd/testdeps build versitygw",
	"nginx":     ", or install it: apt-get install nginx-light",
}

// testCache is where cmd/testdeps keeps the servers that it builds; the same
// variables move it.
func testCache() string {
	if dir := os.Getenv("REGISTRYD_TEST_BIN"); dir != "" {
		return dir
	}
	dir := os.Getenv("REGISTRYD_TEST_CACHE")
	if dir == "" {
		home, err := os.UserCacheDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, "registryd-test")
	}
	return filepath.Join(dir, "bin")
}

// versionLimit bounds how long a binary may take to say its version.
const versionLimit = 10 * time.Second

// Version returns the first line of what the binary says of itself, or "unknown":
// a version is worth a column in a report, not a failure.
func Version(ctx context.Context, binary string, args []string) string {
	ctx, cancel := context.WithTimeout(ctx, versionLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Args[0] = filepath.Base(binary) // some say their own name, which is to be no path of this machine
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}
	said, err := cmd.CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(said)), "\n")
	if err != nil || line == "" {
		return "unknown"
	}
	return line
}
