package clients

import (
	"path/filepath"
	"testing"

	"hostlocal/cmd/testdeps/need"
)

// TestCranePullsByAddress uses no mirror setting at all: the daemon's address
// with a bare name means docker.io.
func TestCranePullsByAddress(t *testing.T) {
	inNamespaces(t)
	need.Binary(t, "crane")
	coldThenWarm(t, func(t *testing.T, d *daemon) puller {
		return puller{
			pull: func() {
				run(t, nil, "crane", "pull", "--insecure", "--platform=linux/amd64", d.addr+"/library/debian:12",
					filepath.Join(scratch(t), "image.tar"))
			},
			forget: func() {},
		}
	})
}

// TestCraneCopiesEveryPlatform walks the whole index, by the upstream's name
// in the path.
func TestCraneCopiesEveryPlatform(t *testing.T) {
	inNamespaces(t)
	need.Binary(t, "crane")
	h := startHub(t)
	d := startDaemon(t, setup{})
	wantWhole(t, d.addr+"/docker.io/library/debian:12")
	run(t, nil, "crane", "pull", "--insecure", "--format=oci", d.addr+"/docker.io/library/debian:12", scratch(t))
	h.wantOnlyDaemons()
}
