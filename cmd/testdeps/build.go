package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"hostlocal/cmd/testdeps/need"
)

// build installs the named servers, or all, unless the cache has them at
// their version. One that fails does not keep the others from being built;
// the error names each.
func build(names []string) error {
	dir, err := need.BinDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	known := map[string]bool{}
	var failed []error
	for _, s := range need.Servers {
		known[s.Name] = true
		if len(names) > 0 && !slices.Contains(names, s.Name) || s.Built(dir) {
			continue
		}
		if err := install(s, dir); err != nil {
			failed = append(failed, err)
		}
	}
	for _, name := range names {
		if !known[name] {
			failed = append(failed, fmt.Errorf("no server is called %q", name))
		}
	}
	return errors.Join(failed...)
}

// install runs go install outside of any module: the servers' dependencies
// are theirs. What the compiler prints is shown only if it fails; MinIO alone
// downloads some hundred modules.
func install(s need.Server, dir string) error {
	fmt.Fprintf(os.Stderr, "building %s %s ...", s.Name, s.Version)
	start := time.Now()
	cmd := exec.Command("go", "install", s.Package+"@"+s.Version)
	cmd.Dir = os.TempDir()
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=", "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	fmt.Fprintf(os.Stderr, " %s\n", time.Since(start).Round(time.Second))
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", s.Name, s.Version, err, out)
	}
	if !s.Built(dir) {
		return fmt.Errorf("%s: what go install put into %s is not %s %s", s.Name, dir, s.Module, s.Version)
	}
	return nil
}
