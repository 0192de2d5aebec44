package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"hostlocal/cmd/testdeps/need"
)

// ctr is a containerd of the test, whose every upstream has registryd as its
// mirror by one hosts.toml: requests carry ?ns=.
type ctr struct {
	t      *testing.T
	socket string
	hosts  string
}

func startContainerd(t *testing.T, mirror string) *ctr {
	t.Helper()
	dir := scratch(t)
	c := &ctr{t, filepath.Join(dir, "containerd.sock"), filepath.Join(dir, "hosts.d")}
	if err := os.MkdirAll(filepath.Join(c.hosts, "_default"), 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		filepath.Join(c.hosts, "_default", "hosts.toml"): fmt.Sprintf("[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", "http://"+mirror),
		filepath.Join(dir, "config.toml"): fmt.Sprintf("version = 2\nroot = %q\nstate = %q\n[grpc]\n  address = %q\n",
			filepath.Join(dir, "root"), filepath.Join(dir, "state"), c.socket),
	}
	for file, text := range files {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, trust(t), need.Binary(t, "containerd"), "--config", filepath.Join(dir, "config.toml"))
	p.ready(func() error {
		_, err := try(t, nil, "ctr", "-a", c.socket, "version")
		return err
	})
	return c
}

func (c *ctr) do(args ...string) string {
	c.t.Helper()
	return run(c.t, trust(c.t), "ctr", append([]string{"-a", c.socket}, args...)...)
}

func (c *ctr) pull(image string) {
	c.t.Helper()
	c.do("images", "pull", "--hosts-dir", c.hosts, image)
}

func TestContainerdPullsAndRunsThroughMirror(t *testing.T) {
	need.Root(t)
	need.Binary(t, "containerd")
	coldThenWarm(t, func(t *testing.T, d *daemon) puller {
		ctr := startContainerd(t, d.addr)
		const image = "docker.io/library/debian:12"
		return puller{
			pull: func() {
				ctr.pull(image)
				wantHello(t, ctr.do("run", "--rm", image, "hello", "/bin/busybox", "echo", "hello from the image"))
			},
			forget: func() { ctr.do("images", "rm", "--sync", image) },
		}
	})
}

// TestContainerdPullsOtherRegistries asks for an image of a registry that is
// not Docker Hub: only ?ns= says which.
func TestContainerdPullsOtherRegistries(t *testing.T) {
	need.Root(t)
	need.Binary(t, "containerd")
	h := startHub(t)
	ctr := startContainerd(t, startDaemon(t, setup{}).addr)
	ctr.pull("ghcr.io/owner/app:v1")
	h.wantOnlyDaemons()
}
