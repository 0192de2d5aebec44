package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"hostlocal/cmd/testdeps/need"
)

// The root file system of a newer Debian, unpacked once a run.
var newer struct {
	once sync.Once
	root string
	err  error
}

// newerRoot returns a root file system with Docker 28 and podman 5, in which
// the run's folder, and so every file of a test, has the same path.
func newerRoot(t *testing.T) string {
	t.Helper()
	inNamespaces(t)
	tar := need.Newer.Tar(t)
	newer.once.Do(func() {
		newer.root = filepath.Join(os.Getenv(workKey), "newer")
		newer.err = unpackRoot(tar, newer.root)
	})
	if newer.err != nil {
		t.Fatal(newer.err)
	}
	return newer.root
}

func unpackRoot(tar, root string) error {
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	if out, err := exec.Command("tar", "-C", root, "-xf", tar).CombinedOutput(); err != nil {
		return fmt.Errorf("unpacking %s: %w: %s", tar, err, out)
	}
	// It must be a mount point itself: Docker remounts the root it sees.
	if err := unix.Mount(root, root, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	work := os.Getenv(workKey)
	if err := os.MkdirAll(filepath.Join(root, work), 0o755); err != nil {
		return err
	}
	for from, flags := range map[string]uintptr{
		"/proc": unix.MS_BIND | unix.MS_REC, "/sys": unix.MS_BIND | unix.MS_REC, "/dev": unix.MS_BIND | unix.MS_REC,
		"/run": unix.MS_BIND, "/etc/hosts": unix.MS_BIND, "/etc/resolv.conf": unix.MS_BIND, work: unix.MS_BIND,
	} {
		to := filepath.Join(root, from)
		if _, err := os.Stat(to); err != nil {
			if err := os.WriteFile(to, nil, 0o644); err != nil {
				return err
			}
		}
		if err := unix.Mount(from, to, "", flags, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", to, err)
		}
	}
	return nil
}

// bringIn makes a program or folder of the usual root file system be there in
// root, and returns its path there.
func bringIn(t *testing.T, root, from string) string {
	t.Helper()
	info, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	path := scratch(t)
	if !info.IsDir() {
		path = filepath.Join(path, filepath.Base(from))
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount(from, filepath.Join(root, path), "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("mounting %s: %v", from, err)
	}
	return path
}
