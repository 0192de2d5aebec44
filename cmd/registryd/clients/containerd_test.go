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
	root   string // the root file system that it is from; empty for the usual one
	client string // path of the ctr command
	socket string
	hosts  string
}

// newCtr is a containerd to be started, whose command is client. Its folder
// of hosts.toml is known before, for settings that name it.
func newCtr(t *testing.T, root, client string) *ctr {
	t.Helper()
	return &ctr{t: t, root: root, client: client, hosts: filepath.Join(scratch(t), "hosts.d")}
}

func startContainerd(t *testing.T, mirror string) *ctr {
	t.Helper()
	c := newCtr(t, "", need.Binary(t, "ctr"))
	c.start(need.Binary(t, "containerd"), mirror, 2, "")
	return c
}

// start runs containerd with a configuration of this version, and more of it.
func (c *ctr) start(containerd, mirror string, version int, more string) {
	c.t.Helper()
	dir := scratch(c.t)
	c.socket = filepath.Join(dir, "containerd.sock")
	if err := os.MkdirAll(filepath.Join(c.hosts, "_default"), 0o755); err != nil {
		c.t.Fatal(err)
	}
	files := map[string]string{
		filepath.Join(c.hosts, "_default", "hosts.toml"): fmt.Sprintf("[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", "http://"+mirror),
		filepath.Join(dir, "config.toml"): fmt.Sprintf("version = %d\nroot = %q\nstate = %q\n[grpc]\n  address = %q\n%s",
			version, filepath.Join(dir, "root"), filepath.Join(dir, "state"), c.socket, more),
	}
	for file, text := range files {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			c.t.Fatal(err)
		}
	}
	p := startIn(c.t, c.root, trust(c.t), containerd, "--config", filepath.Join(dir, "config.toml"))
	p.ready(func() error {
		_, err := c.try("version")
		return err
	})
}

// try runs the ctr command line, which may fail.
func (c *ctr) try(args ...string) (string, error) {
	c.t.Helper()
	return tryIn(c.t, c.root, trust(c.t), c.client, append([]string{"-a", c.socket}, args...)...)
}

func (c *ctr) do(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Fatalf("ctr %q: %v\n%s", args, err, out)
	}
	return out
}

func (c *ctr) pull(image string) {
	c.t.Helper()
	c.do("images", "pull", "--hosts-dir", c.hosts, image)
}

// puller pulls and runs library/debian:12.
func (c *ctr) puller() puller {
	const image = "docker.io/library/debian:12"
	return puller{
		pull: func() {
			c.t.Helper()
			c.pull(image)
			wantHello(c.t, c.do("run", "--rm", image, "hello", "/bin/busybox", "echo", "hello from the image"))
		},
		forget: func() { c.do("images", "rm", "--sync", image) },
	}
}

func TestContainerdPullsAndRunsThroughMirror(t *testing.T) {
	inNamespaces(t)
	need.Binary(t, "containerd")
	coldThenWarm(t, func(t *testing.T, d *daemon) puller { return startContainerd(t, d.addr).puller() })
}

// TestContainerdPullsOtherRegistries asks for an image of a registry that is
// not Docker Hub: only ?ns= says which.
func TestContainerdPullsOtherRegistries(t *testing.T) {
	inNamespaces(t)
	need.Binary(t, "containerd")
	h := startHub(t)
	ctr := startContainerd(t, startDaemon(t, setup{}).addr)
	ctr.pull("ghcr.io/owner/app:v1")
	h.wantOnlyDaemons()
}
