package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hostlocal/cmd/testdeps/need"
)

// containersConf makes podman, buildah and skopeo use registryd for docker.io
// and ghcr.io, by the path prefix that names the upstream. It returns their
// environment; skopeo wants to be told of the file by a flag as well.
func containersConf(t *testing.T, mirror string) []string {
	t.Helper()
	dir := scratch(t)
	conf := filepath.Join(dir, "registries.conf")
	var text string
	for _, upstream := range []string{"docker.io", "ghcr.io"} {
		text += fmt.Sprintf("[[registry]]\nprefix = %q\nlocation = %q\n[[registry.mirror]]\nlocation = %q\ninsecure = true\n",
			upstream, upstream, mirror+"/"+upstream)
	}
	storage := filepath.Join(dir, "storage.conf")
	storageText := fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n",
		filepath.Join(dir, "graph"), filepath.Join(dir, "run"))
	for file, text := range map[string]string{conf: text, storage: storageText} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return append(trust(t), "CONTAINERS_REGISTRIES_CONF="+conf, "CONTAINERS_STORAGE_CONF="+storage)
}

func TestPodmanPullsAndRunsThroughMirror(t *testing.T) {
	inNamespaces(t)
	need.Binary(t, "podman")
	coldThenWarm(t, func(t *testing.T, d *daemon) puller {
		env := containersConf(t, d.addr)
		podman := func(args ...string) string {
			t.Helper()
			return run(t, env, "podman", append([]string{"--cgroup-manager=cgroupfs", "--events-backend=file"}, args...)...)
		}
		const image = "docker.io/library/debian:12"
		return puller{
			pull: func() {
				podman("pull", image)
				// runc and the limits are for hosts with the first cgroups,
				// where crun and the usual limits are refused.
				wantHello(t, podman("--runtime=runc", "run", "--rm", "--net=none", "--ulimit=nofile=1024:1024",
					"--ulimit=nproc=1024:1024", image, "/bin/busybox", "echo", "hello from the image"))
			},
			forget: func() { podman("rmi", image) },
		}
	})
}

func TestBuildahPullsThroughMirror(t *testing.T) {
	inNamespaces(t)
	need.Binary(t, "buildah")
	coldThenWarm(t, func(t *testing.T, d *daemon) puller {
		env := containersConf(t, d.addr)
		return puller{
			pull:   func() { run(t, env, "buildah", "pull", "docker.io/library/debian:12") },
			forget: func() { run(t, env, "buildah", "rmi", "--all", "--force") },
		}
	})
}

// TestSkopeoCopiesThroughMirror copies into a folder; skopeo has no store that
// could have the layers already.
func TestSkopeoCopiesThroughMirror(t *testing.T) {
	inNamespaces(t)
	need.Binary(t, "skopeo")
	coldThenWarm(t, func(t *testing.T, d *daemon) puller {
		env := containersConf(t, d.addr)
		return puller{
			pull:   func() { skopeoCopy(t, env, "docker.io/library/debian:12") },
			forget: func() {},
		}
	})
}

// TestSkopeoPullsOtherRegistries names an upstream that is not Docker Hub by
// the path prefix.
func TestSkopeoPullsOtherRegistries(t *testing.T) {
	inNamespaces(t)
	need.Binary(t, "skopeo")
	h := startHub(t)
	env := containersConf(t, startDaemon(t, setup{}).addr)
	skopeoCopy(t, env, "ghcr.io/owner/app:v1")
	h.wantOnlyDaemons()
}

// skopeoCopy copies the image into a new folder.
func skopeoCopy(t *testing.T, env []string, image string) {
	t.Helper()
	var conf string
	for _, kv := range env {
		if file, ok := strings.CutPrefix(kv, "CONTAINERS_REGISTRIES_CONF="); ok {
			conf = file
		}
	}
	run(t, env, "skopeo", "--registries-conf", conf, "copy", "docker://"+image, "dir:"+scratch(t))
}
