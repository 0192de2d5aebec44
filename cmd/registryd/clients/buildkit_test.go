package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hostlocal/cmd/testdeps/need"
)

// recipe is a build whose base has to be there in full: a step runs in it.
// What the step prints is checked, so that a step taken from the builder's
// cache does not count.
const recipe = "FROM %s\nRUN [\"/bin/busybox\", \"echo\", \"hello from the image\"]\n"

// recipeIn writes the recipe for a base into a new folder.
func recipeIn(t *testing.T, base string) string {
	t.Helper()
	dir := scratch(t)
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), fmt.Appendf(nil, recipe, base), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// wantStep checks that the build's step ran, and said hello.
func wantStep(t *testing.T, progress string) {
	t.Helper()
	for line := range strings.Lines(progress) {
		if strings.HasSuffix(strings.TrimSpace(line), " hello from the image") && !strings.Contains(line, "RUN") {
			return
		}
	}
	t.Errorf("the build's step said nothing:\n%s", progress)
}

// TestBuildKitBuildsThroughMirror is buildkitd with its own configuration of
// mirrors, for Docker Hub and for another registry.
func TestBuildKitBuildsThroughMirror(t *testing.T) {
	inNamespaces(t)
	coldThenWarm(t, func(t *testing.T, d *daemon) puller {
		control := startBuildKit(t, fmt.Sprintf(`[registry."docker.io"]
  mirrors = [%q]
[registry."ghcr.io"]
  mirrors = [%q]
[registry.%q]
  http = true
`, d.addr, d.addr, d.addr))
		return puller{
			pull: func() {
				t.Helper()
				for _, base := range []string{"debian:12", "ghcr.io/owner/app:v1"} {
					dir := recipeIn(t, base)
					out, err := control("build", "--progress=plain", "--frontend=dockerfile.v0",
						"--local=context="+dir, "--local=dockerfile="+dir)
					if err != nil {
						t.Fatalf("buildctl build FROM %s: %v\n%s", base, err, out)
					}
					wantStep(t, out)
				}
			},
			forget: func() {
				if out, err := control("prune", "--all"); err != nil {
					t.Fatalf("buildctl prune: %v\n%s", err, out)
				}
			},
		}
	})
}

// startBuildKit runs buildkitd with these settings of registries, and returns the
// command that speaks to it.
func startBuildKit(t *testing.T, registries string) func(args ...string) (string, error) {
	t.Helper()
	buildkitd, buildctl := need.Binary(t, "buildkitd"), need.Binary(t, "buildctl")
	need.Binary(t, "runc")
	dir := scratch(t)
	socket := "unix://" + filepath.Join(dir, "buildkitd.sock")
	config := filepath.Join(dir, "buildkitd.toml")
	text := fmt.Sprintf(`root = %q
[grpc]
  address = [%q]
[worker.oci]
  snapshotter = "overlayfs"
[worker.containerd]
  enabled = false
%s`, filepath.Join(dir, "root"), socket, registries)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	control := func(args ...string) (string, error) {
		return tryIn(t, "", trust(t), buildctl, append([]string{"--addr", socket}, args...)...)
	}
	p := start(t, trust(t), buildkitd, "--config", config)
	p.ready(func() error {
		_, err := control("debug", "workers")
		return err
	})
	return control
}

// TestDockerBuildsThroughMirror is the BuildKit within Docker, by way of
// buildx: the base comes by Docker's own registry-mirrors.
func TestDockerBuildsThroughMirror(t *testing.T) {
	inNamespaces(t)
	for name, features := range stores {
		t.Run(name, func(t *testing.T) {
			root := newerRoot(t)
			coldThenWarm(t, func(t *testing.T, d *daemon) puller {
				docker := &docker{t: t, root: root, client: "/usr/bin/docker"}
				docker.start("/usr/sbin/dockerd", d.addr, features)
				return puller{
					pull: func() {
						t.Helper()
						wantStep(t, docker.do("buildx", "build", "--progress=plain", recipeIn(t, "debian:12")))
					},
					forget: func() {
						docker.do("image", "prune", "--all", "--force")
						docker.do("buildx", "prune", "--all", "--force")
					},
				}
			})
		})
	}
}
