package need

import (
	"os"
	"path/filepath"
	"testing"
)

// LayerPackages are the Debian packages whose files make the test images'
// layers. busybox-static makes them runnable; the others are there for their
// size. As layers they have 1, 5, 2 and 21 MB.
var LayerPackages = []string{"busybox-static", "libc6", "perl-base", "git"}

// WideSuite and WidePackages are the newer clients: Docker 28 with either of
// its stores, containerd 2.1, podman 5, skopeo 1.2x.
const (
	WideSuite    = "sid"
	WidePackages = "docker.io,docker-cli,containerd,runc,podman,skopeo,crun,netavark,aardvark-dns,conmon,iptables,ca-certificates,iproute2,procps"
)

// LayerDir is where `testdeps layers` puts the layers, one PACKAGE.tar.gz each.
func LayerDir() (string, error) {
	dir, err := CacheDir()
	return filepath.Join(dir, "layers"), err
}

// RootfsFile is where `testdeps rootfs` puts a suite's root file system.
func RootfsFile(suite string) (string, error) {
	dir, err := CacheDir()
	return filepath.Join(dir, "rootfs-"+suite+".tar"), err
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

// Rootfs returns the tar of the wide set's root file system.
func Rootfs(t testing.TB) string {
	t.Helper()
	file, err := RootfsFile(WideSuite)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		Missing(t, WideSuite+" root file system", "not made; run as root on Debian: go run ./cmd/testdeps rootfs")
	}
	return file
}
