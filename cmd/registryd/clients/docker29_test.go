package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hostlocal/cmd/testdeps/need"
)

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
