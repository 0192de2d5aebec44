package clients

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"hostlocal/cmd/testdeps/need"
)

// docker is a Docker daemon of the test.
type docker struct {
	t      *testing.T
	root   string // the root file system that it is from; empty for the usual one
	client string // path of the docker command
	socket string
	plain  []string // registries spoken to without TLS, besides those on loopback

	*process
}

// startDocker runs dockerd with registryd as its registry mirror: the classic
// store, a new connection for every request, no ?ns=.
func startDocker(t *testing.T, mirror string) *docker {
	t.Helper()
	need.Binary(t, "iptables")
	d := &docker{t: t, client: need.Binary(t, "docker")}
	d.start(need.Binary(t, "dockerd"), mirror, nil)
	return d
}

// start runs the daemon with these features on, besides the mirror.
func (d *docker) start(dockerd, mirror string, features map[string]bool) {
	d.t.Helper()
	dir := scratch(d.t)
	d.socket = filepath.Join(dir, "docker.sock")
	config, err := json.Marshal(map[string]any{
		"registry-mirrors":    []string{"http://" + mirror},
		"data-root":           filepath.Join(dir, "data"),
		"exec-root":           filepath.Join(dir, "exec"),
		"pidfile":             filepath.Join(dir, "pid"),
		"hosts":               []string{"unix://" + d.socket},
		"features":            features,
		"insecure-registries": d.plain,
	})
	if err != nil {
		d.t.Fatal(err)
	}
	file := filepath.Join(dir, "daemon.json")
	if err := os.WriteFile(file, config, 0o644); err != nil {
		d.t.Fatal(err)
	}
	d.process = startIn(d.t, d.root, trust(d.t), dockerd, "--config-file", file)
	d.ready(func() error {
		_, err := d.try("version")
		return err
	})
}

// try runs the docker command line, which may fail.
func (d *docker) try(args ...string) (string, error) {
	d.t.Helper()
	return tryIn(d.t, d.root, nil, d.client, append([]string{"-H", "unix://" + d.socket}, args...)...)
}

// do runs the docker command line.
func (d *docker) do(args ...string) string {
	d.t.Helper()
	out, err := d.try(args...)
	if err != nil {
		d.t.Fatalf("docker %q: %v\n%s", args, err, out)
	}
	return out
}

// puller pulls and runs library/debian:12.
func (d *docker) puller() puller {
	return puller{
		pull: func() {
			d.t.Helper()
			d.do("pull", "debian:12")
			wantHello(d.t, d.do("run", "--rm", "debian:12", "/bin/busybox", "echo", "hello from the image"))
		},
		forget: func() { d.do("rmi", "debian:12") },
	}
}

func TestDockerPullsAndRunsThroughMirror(t *testing.T) {
	inNamespaces(t)
	need.Binary(t, "dockerd")
	coldThenWarm(t, func(t *testing.T, d *daemon) puller { return startDocker(t, d.addr).puller() })
}

// TestDockerPullsWhatItPushedToAStockRegistry is a team's own image: pushed to
// the stock registry over the folder, pulled from the daemon over the same
// folder, by its address and with the hub gone.
func TestDockerPullsWhatItPushedToAStockRegistry(t *testing.T) {
	inNamespaces(t)
	need.Binary(t, "dockerd")
	h := startHub(t)
	b := bucketKinds["folder"](t)
	d := startDaemon(t, setup{own: "team/*", store: b.store})
	docker := startDocker(t, d.addr)
	const stock = "127.0.0.1:5600"
	stockRegistry(t, b.stock, stock)
	docker.do("pull", "debian:12")
	docker.do("tag", "debian:12", stock+"/team/app:v1")
	docker.do("push", stock+"/team/app:v1")
	docker.do("rmi", "debian:12", stock+"/team/app:v1")

	before := h.goAway()
	docker.do("pull", d.addr+"/team/app:v1")
	wantHello(t, docker.do("run", "--rm", d.addr+"/team/app:v1", "/bin/busybox", "echo", "hello from the image"))
	h.wantNoContact(before)
}
