package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"hostlocal/cmd/testdeps/need"
)

// makeRootFSs makes the named root file systems, or all, unless the cache has
// them with these packages.
func makeRootFSs(names []string) error {
	var failed []error
	for _, r := range need.RootFSs {
		if len(names) == 0 || slices.Contains(names, r.Name) {
			failed = append(failed, makeRootFS(r))
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(need.RootFSs, func(r need.RootFS) bool { return r.Name == name }) {
			failed = append(failed, fmt.Errorf("no root file system is called %q", name))
		}
	}
	return errors.Join(failed...)
}

func makeRootFS(r need.RootFS) error {
	file, err := r.File()
	if err != nil || exists(file) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "making a root file system of Debian's %s ...", r.Suite)
	start := time.Now()
	partial := file + ".partial"
	cmd := exec.Command("mmdebstrap", "--quiet", "--format=tar", "--variant=minbase",
		"--aptopt=Acquire::Check-Valid-Until \"false\"", "--include="+r.Packages, r.Suite, partial)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return errors.Join(fmt.Errorf("mmdebstrap %s: %w", r.Suite, err), os.Remove(partial))
	}
	fmt.Fprintf(os.Stderr, " %s\n", time.Since(start).Round(time.Second))
	return errors.Join(os.Rename(partial, file), removeOlder(r, file))
}

// removeOlder deletes the tars of the same name with other packages; each has
// half a gigabyte.
func removeOlder(r need.RootFS, file string) error {
	tars, err := filepath.Glob(filepath.Join(filepath.Dir(file), "rootfs-"+r.Name+"-*.tar"))
	for _, tar := range tars {
		if tar != file {
			err = errors.Join(err, os.Remove(tar))
		}
	}
	return err
}
