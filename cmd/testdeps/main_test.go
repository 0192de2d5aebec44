package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hostlocal/cmd/testdeps/need"
)

// TestBuildNamesWhatItDoesNotKnow keeps a misspelt name from being a silent
// success.
func TestBuildNamesWhatItDoesNotKnow(t *testing.T) {
	t.Setenv("REGISTRYD_TEST_BIN", t.TempDir())
	err := run([]string{"build", "minoi"})
	if err == nil || !strings.Contains(err.Error(), `"minoi"`) {
		t.Errorf("build minoi: %v, want an error that names it", err)
	}
}

func TestRootFSNamesWhatItDoesNotKnow(t *testing.T) {
	t.Setenv("REGISTRYD_TEST_CACHE", t.TempDir())
	err := run([]string{"rootfs", "sid"})
	if err == nil || !strings.Contains(err.Error(), `"sid"`) {
		t.Errorf("rootfs sid: %v, want an error that names it", err)
	}
}

// TestOlderRootFSIsRemoved leaves those of other names where they are.
func TestOlderRootFSIsRemoved(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("REGISTRYD_TEST_CACHE", dir)
	current, err := need.Newer.File()
	if err != nil {
		t.Fatal(err)
	}
	older, other := filepath.Join(dir, "rootfs-newer-00000000.tar"), filepath.Join(dir, "rootfs-booted-00000000.tar")
	for _, file := range []string{current, older, other} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeOlder(need.Newer, current); err != nil {
		t.Fatal(err)
	}
	if exists(older) || !exists(current) || !exists(other) {
		t.Errorf("older there: %v, current: %v, of another name: %v; want false, true, true", exists(older), exists(current), exists(other))
	}
}

func TestNothingSkippedPrintsNothing(t *testing.T) {
	if err := run([]string{"skipped", t.TempDir() + "/none"}); err != nil {
		t.Errorf("a run without a list of skips: %v", err)
	}
}
