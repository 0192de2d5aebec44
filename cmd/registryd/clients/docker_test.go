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
	socket string
}

// startDocker runs dockerd with registryd as its registry mirror: the classic
// store, a new connection for every request, no ?ns=.
func startDocker(t *testing.T, mirror string) *docker {
	t.Helper()
	need.Binary(t, "iptables")
	dir := scratch(t)
	d := &docker{t, filepath.Join(dir, "docker.sock")}
	config, err := json.Marshal(map[string]any{
		"registry-mirrors": []string{"http://" + mirror},
		"data-root":        filepath.Join(dir, "data"),
		"exec-root":        filepath.Join(dir, "exec"),
		"pidfile":          filepath.Join(dir, "pid"),
		"hosts":            []string{"unix://" + d.socket},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "daemon.json")
	if err := os.WriteFile(file, config, 0o644); err != nil {
		t.Fatal(err)
	}
	p := start(t, trust(t), need.Binary(t, "dockerd"), "--config-file", file)
	p.ready(func() error {
		_, err := try(t, nil, "docker", "-H", "unix://"+d.socket, "version")
		return err
	})
	return d
}

// do runs the docker command line.
func (d *docker) do(args ...string) string {
	d.t.Helper()
	return run(d.t, nil, "docker", append([]string{"-H", "unix://" + d.socket}, args...)...)
}

func TestDockerPullsAndRunsThroughMirror(t *testing.T) {
	need.Root(t)
	need.Binary(t, "dockerd")
	coldThenWarm(t, func(t *testing.T, d *daemon) puller {
		docker := startDocker(t, d.addr)
		return puller{
			pull: func() {
				docker.do("pull", "debian:12")
				wantHello(t, docker.do("run", "--rm", "debian:12", "/bin/busybox", "echo", "hello from the image"))
			},
			forget: func() { docker.do("rmi", "debian:12") },
		}
	})
}

// TestDockerPullsWhatItPushedToAStockRegistry is a team's own image: pushed to
// the stock registry over the folder, pulled from the daemon over the same
// folder, by its address and with the hub gone.
func TestDockerPullsWhatItPushedToAStockRegistry(t *testing.T) {
	need.Root(t)
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
