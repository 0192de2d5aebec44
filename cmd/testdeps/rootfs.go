package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"hostlocal/cmd/testdeps/need"
)

// makeRootfs makes a root file system with the clients of a newer Debian and
// keeps it as a tar: what a suite holds moves, the tar does not.
func makeRootfs(suite string) error {
	file, err := need.RootfsFile(suite)
	if err != nil || exists(file) {
		return err
	}
	dir, err := need.CacheDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "making a root file system of Debian's %s ...", suite)
	start := time.Now()
	partial := file + ".partial"
	cmd := exec.Command("mmdebstrap", "--quiet", "--format=tar", "--variant=minbase",
		"--aptopt=Acquire::Check-Valid-Until \"false\"", "--include="+need.WidePackages, suite, partial)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return errors.Join(fmt.Errorf("mmdebstrap %s: %w", suite, err), os.Remove(partial))
	}
	fmt.Fprintf(os.Stderr, " %s\n", time.Since(start).Round(time.Second))
	return os.Rename(partial, file)
}
