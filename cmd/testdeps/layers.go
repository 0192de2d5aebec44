package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"hostlocal/cmd/testdeps/need"
)

// makeLayers turns Debian packages into gzipped tars: real layers, with real
// files, links and modes, of sizes from one to ten megabytes. It needs apt
// and dpkg, but not root.
func makeLayers() error {
	dir, err := need.LayerDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var failed []error
	for _, pkg := range need.LayerPackages {
		if file := filepath.Join(dir, pkg+".tar.gz"); !exists(file) {
			if err := makeLayer(pkg, file); err != nil {
				failed = append(failed, fmt.Errorf("layer of package %s: %w", pkg, err))
			}
		}
	}
	return errors.Join(failed...)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// makeLayer downloads one package and repacks its files. The layer appears
// under its name complete or not at all.
func makeLayer(pkg, file string) error {
	fmt.Fprintf(os.Stderr, "making a layer of Debian's %s ...", pkg)
	start := time.Now()
	defer func() { fmt.Fprintf(os.Stderr, " %s\n", time.Since(start).Round(time.Second)) }()
	work, err := os.MkdirTemp(filepath.Dir(file), "tmp-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if os.Geteuid() == 0 {
		// apt downloads as user _apt where it can; it warns where it cannot.
		os.Chmod(work, 0o777)
	}
	// -n: no time stamp, so that the same package gives the same digest.
	const script = `set -eu; apt-get -qq download "$0"; dpkg-deb --fsys-tarfile *.deb > layer.tar; gzip -6n layer.tar`
	cmd := exec.Command("sh", "-c", script, pkg)
	cmd.Dir = work
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return os.Rename(filepath.Join(work, "layer.tar.gz"), file)
}
