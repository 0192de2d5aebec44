package clients

import "testing"

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
