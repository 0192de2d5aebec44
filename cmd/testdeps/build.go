package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"time"

	"hostlocal/cmd/testdeps/need"
)

// build installs the named servers, or all that the user's tests can run,
// unless the cache has them at their version. One that fails does not keep the others from being built;
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
		wanted := slices.Contains(names, s.Name) || len(names) == 0 && (!s.Root || os.Geteuid() == 0)
		if !wanted || s.Built(dir) {
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

// install builds a server outside of our module: its dependencies are its own.
// What the compiler prints is shown only if it fails; MinIO alone downloads
// some hundred modules.
func install(s need.Server, dir string) error {
	fmt.Fprintf(os.Stderr, "building %s %s ...", s.Name, s.Version)
	start := time.Now()
	module, err := os.MkdirTemp(dir, "building-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(module)
	steps := [][]string{{"install", s.Package + "@" + s.Version}}
	if s.Wrapped {
		steps = [][]string{{"mod", "init", "wrapper"}, {"get", s.Package + "@" + s.Version}, {"install", s.Package}}
	}
	for _, step := range steps {
		cmd := exec.Command("go", step...)
		cmd.Dir = module
		cmd.Env = append(os.Environ(), "GOBIN="+module, "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s %s: go %s: %w\n%s", s.Name, s.Version, step[0], err, out)
		}
	}
	fmt.Fprintf(os.Stderr, " %s\n", time.Since(start).Round(time.Second))
	if err := os.Rename(filepath.Join(module, path.Base(s.Package)), filepath.Join(dir, s.Name)); err != nil {
		return err
	}
	if !s.Built(dir) {
		return fmt.Errorf("%s: what go install put into %s is not %s %s", s.Name, dir, s.Module, s.Version)
	}
	return nil
}
