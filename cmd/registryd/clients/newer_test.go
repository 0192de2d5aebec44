package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// stores are Docker's two, by the feature that chooses between them.
var stores = map[string]map[string]bool{
	"classic":    {"containerd-snapshotter": false},
	"containerd": {"containerd-snapshotter": true},
}

// TestNewerDockerPullsAndRunsThroughMirror is Docker 28 with either of its
// stores. With containerd's, the default from 29 on, it sends ?ns= and asks
// for ranges as containerd does.
func TestNewerDockerPullsAndRunsThroughMirror(t *testing.T) {
	inNamespaces(t)
	for name, features := range stores {
		t.Run(name, func(t *testing.T) {
			root := newerRoot(t)
			coldThenWarm(t, func(t *testing.T, d *daemon) puller {
				docker := &docker{t: t, root: root, client: "/usr/bin/docker"}
				docker.start("/usr/sbin/dockerd", d.addr, features)
				return docker.puller()
			})
		})
	}
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

// TestDocker29PullsAndRunsThroughMirror is the daemon that Docker 29 is, with
// containerd's store because that is its default, and a command line of 28.
// Images of docker.io come by registry-mirrors, those of ghcr.io by a
// hosts.toml where README.md says that it goes.
func TestDocker29PullsAndRunsThroughMirror(t *testing.T) {
	inNamespaces(t)
	dockerd := need.Binary(t, "dockerd-29")
	root := newerRoot(t)
	dockerd = bringIn(t, root, dockerd)
	coldThenWarm(t, func(t *testing.T, d *daemon) puller {
		writeHosts(t, filepath.Join(root, "etc/docker/certs.d/ghcr.io"), "https://ghcr.io", d.addr)
		docker := &docker{t: t, root: root, client: "/usr/bin/docker"}
		docker.start(dockerd, d.addr, nil)
		if info := docker.do("info", "--format={{.DriverStatus}}"); !strings.Contains(info, "io.containerd.snapshotter.v1") {
			t.Errorf("containerd's store is not the default: %s", info)
		}
		p := docker.puller()
		return puller{
			pull: func() {
				t.Helper()
				p.pull()
				docker.do("pull", "ghcr.io/owner/app:v1")
			},
			forget: func() {
				p.forget()
				docker.do("rmi", "ghcr.io/owner/app:v1")
			},
		}
	})
}

// writeHosts writes a hosts.toml into dir: what server has is asked of the
// mirror first. It is removed with the test.
func writeHosts(t *testing.T, dir, server, mirror string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	text := fmt.Sprintf("server = %q\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", server, "http://"+mirror)
	if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestNewerContainerdPullsInPieces has containerd 2 fetch a layer as several
// open-ended ranges at once, each dropped when its piece is there.
func TestNewerContainerdPullsInPieces(t *testing.T) {
	root := newerRoot(t)
	coldThenWarm(t, func(t *testing.T, d *daemon) puller {
		c := newCtr(t, root, "/usr/bin/ctr")
		c.start("/usr/bin/containerd", d.addr, 3, `[plugins.'io.containerd.transfer.v1.local']
  concurrent_layer_fetch_buffer = 4194304
`)
		p := c.puller()
		p.spare = 8 << 20 // what sockets hold
		pull := p.pull
		p.pull = func() {
			pull()
			if d.metric("registryd_requests_total", `code="206"`) == 0 {
				t.Error("containerd asked for no range; its setting has changed")
			}
		}
		return p
	})
}

// TestNewerPodmanPullsThroughMirror is podman 5, which has no way back to the
// hub once a manifest came from the mirror.
func TestNewerPodmanPullsThroughMirror(t *testing.T) {
	root := newerRoot(t)
	coldThenWarm(t, func(t *testing.T, d *daemon) puller {
		env := append(containersConf(t, d.addr), "PODMAN_IGNORE_CGROUPSV1_WARNING=1")
		podman := func(args ...string) {
			t.Helper()
			args = append([]string{"--cgroup-manager=cgroupfs", "--events-backend=file"}, args...)
			if out, err := tryIn(t, root, env, "/usr/bin/podman", args...); err != nil {
				t.Fatalf("podman %q: %v\n%s", args, err, out)
			}
		}
		return puller{
			pull:   func() { podman("pull", "docker.io/library/debian:12") },
			forget: func() { podman("rmi", "docker.io/library/debian:12") },
		}
	})
}
