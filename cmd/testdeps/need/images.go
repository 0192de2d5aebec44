package need

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// LayerPackages are the Debian packages whose files make the test images'
// layers. busybox-static makes them runnable; the others are there for their
// size. As layers they have 1, 5, 2 and 21 MB.
var LayerPackages = []string{"busybox-static", "libc6", "perl-base", "git"}

// A RootFS is a root file system made of Debian's packages, kept as a tar: what
// a suite holds moves, the tar does not.
type RootFS struct {
	Name     string
	Suite    string
	Packages string // as mmdebstrap takes them
}

var (
	// Newer has the clients of a newer Debian: Docker 28 with either of its
	// stores, with buildx and compose, containerd 2.1, podman 5, skopeo 1.2x, oras.
	Newer = RootFS{"newer", "sid", "docker.io,docker-cli,docker-buildx,docker-compose,containerd,runc,podman,skopeo,oras,crun,netavark,aardvark-dns,conmon,iptables,ca-certificates,iproute2,procps"}
	// Booted is a host whose first process is systemd. It is of an older Debian
	// because systemd from 256 on refuses hosts with the first cgroups.
	Booted = RootFS{"booted", "bookworm", "systemd,systemd-sysv,dbus,libnss-systemd,procps,ca-certificates"}

	RootFSs = []RootFS{Newer, Booted}
)

// LayerDir is where `testdeps layers` puts the layers, one PACKAGE.tar.gz each.
func LayerDir() (string, error) {
	dir, err := CacheDir()
	return filepath.Join(dir, "layers"), err
}

// File is where `testdeps rootfs` puts the tar. The name changes with the
// packages, so that another list of them makes another tar.
func (r RootFS) File() (string, error) {
	dir, err := CacheDir()
	sum := sha256.Sum256([]byte(r.Suite + " " + r.Packages))
	return filepath.Join(dir, fmt.Sprintf("rootfs-%s-%x.tar", r.Name, sum[:4])), err
}

// Layers returns the files of LayerPackages' layers, in their order.
func Layers(t testing.TB) []string {
	t.Helper()
	dir, err := LayerDir()
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, pkg := range LayerPackages {
		file := filepath.Join(dir, pkg+".tar.gz")
		if _, err := os.Stat(file); err != nil {
			Missing(t, "layers", "not made; run on Debian: go run ./cmd/testdeps layers")
		}
		files = append(files, file)
	}
	return files
}

// Tar returns the root file system's tar.
func (r RootFS) Tar(t testing.TB) string {
	t.Helper()
	file, err := r.File()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		Missing(t, "root file system "+r.Name, "not made; run as root on Debian: go run ./cmd/testdeps rootfs")
	}
	return file
}
