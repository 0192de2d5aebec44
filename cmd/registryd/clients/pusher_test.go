package clients

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"hostlocal/cmd/testdeps/need"
)

// A pusher is a client that speaks to a registry by its address.
type pusher struct {
	name string
	// push sends an image to ref.
	push func(l local, ref string) (printed string, err error)
	// pull fetches ref whole, whatever the client had before. What is seen of it
	// has in it what /hello says, or the digest of ref's manifest.
	pull func(ref string) (seen string, err error)
}

// plainHosts are the registries that pushers speak to without TLS, besides those on
// loopback: one that is reached by an address of this host that is not loopback.
var plainHosts = []string{outsideAddr + ":5000"}

const outsideAddr = "192.0.2.7" // of nobody; on the loopback interface of the namespace

// pushers are all the clients that can push, started for this test.
func pushers(t *testing.T) []pusher {
	t.Helper()
	inNamespaces(t)
	root := newerRoot(t)
	clients := []pusher{dockerPusher(t, "docker-20", &docker{t: t, client: need.Binary(t, "docker")}, need.Binary(t, "dockerd"), nil)}
	for _, store := range slices.Sorted(maps.Keys(stores)) { // in the same order each time: who pulls from whom depends on it
		clients = append(clients, dockerPusher(t, "docker-28-"+store, &docker{t: t, root: root, client: "/usr/bin/docker"}, "/usr/sbin/dockerd", stores[store]))
	}
	clients = append(clients,
		podmanPusher(t, "podman-4", "", need.Binary(t, "podman")), podmanPusher(t, "podman-5", root, "/usr/bin/podman"),
		skopeoPusher(t, "skopeo-1.9", "", need.Binary(t, "skopeo")), skopeoPusher(t, "skopeo-new", root, "/usr/bin/skopeo"),
		buildahPusher(t), cranePusher(t), regctlPusher(t), orasPusher(t, root), buildkitPusher(t))
	for i := range clients {
		clients[i] = oneAtATime(clients[i])
	}
	return clients
}

// oneAtATime is a pusher that does one thing at a time, as its tests may run in
// parallel and what it removes at the end is in some of them all that it has.
func oneAtATime(p pusher) pusher {
	var turn sync.Mutex
	return pusher{p.name,
		func(l local, ref string) (string, error) {
			turn.Lock()
			defer turn.Unlock()
			return p.push(l, ref)
		},
		func(ref string) (string, error) {
			turn.Lock()
			defer turn.Unlock()
			return p.pull(ref)
		}}
}

// steps runs a client several times until one fails, and returns all that was
// printed.
type steps struct {
	run     func(args ...string) (string, error)
	printed strings.Builder
	err     error
}

func (s *steps) do(args ...string) string {
	if s.err != nil {
		return ""
	}
	out, err := s.run(args...)
	s.printed.WriteString(out)
	if err != nil {
		s.err = fmt.Errorf("%q: %w\n%s", args, err, out)
	}
	return out
}

// result is what a pusher's functions return.
func (s *steps) result() (string, error) { return s.printed.String(), s.err }

// readHello is what is run in a container of a pulled image.
var readHello = []string{"/bin/busybox", "cat", "/hello"}

func dockerPusher(t *testing.T, name string, d *docker, dockerd string, features map[string]bool) pusher {
	t.Helper()
	need.Binary(t, "iptables")
	d.plain = plainHosts
	d.start(dockerd, "127.0.0.1:5000", features)
	return pusher{name,
		func(l local, ref string) (string, error) {
			s := steps{run: d.try}
			s.do("load", "-i", l.tar)
			s.do("push", ref)
			d.try("rmi", "--force", ref)
			return s.result()
		},
		func(ref string) (string, error) {
			s := steps{run: d.try}
			s.do("pull", ref)
			s.do(append([]string{"run", "--rm", ref}, readHello...)...)
			s.do("rmi", "--force", ref)
			return s.result()
		}}
}

// inRoot runs a program of another root file system, or of the usual one.
func inRoot(t *testing.T, root string, env []string, path string, always ...string) func(args ...string) (string, error) {
	return func(args ...string) (string, error) {
		return tryIn(t, root, env, path, append(always[:len(always):len(always)], args...)...)
	}
}

// podmanPusher runs containers only with the usual root file system: the newer
// podman refuses the first cgroups for that.
func podmanPusher(t *testing.T, name, root, path string) pusher {
	t.Helper()
	env := append(containersConf(t, "127.0.0.1:5000"), "PODMAN_IGNORE_CGROUPSV1_WARNING=1")
	podman := inRoot(t, root, env, path, "--cgroup-manager=cgroupfs", "--events-backend=file")
	return pusher{name,
		func(l local, ref string) (string, error) {
			s := steps{run: podman}
			s.do("load", "-i", l.tar)
			s.do("push", "--tls-verify=false", ref)
			podman("rmi", "--force", ref)
			return s.result()
		},
		func(ref string) (string, error) {
			s := steps{run: podman}
			s.do("pull", "--tls-verify=false", ref)
			if root == "" {
				s.do(append([]string{"--runtime=runc", "run", "--rm", "--net=none", "--ulimit=nofile=1024:1024",
					"--ulimit=nproc=1024:1024", ref}, readHello...)...)
			} else {
				s.do("image", "inspect", "--format={{.RepoDigests}}", ref)
			}
			s.do("rmi", "--force", ref)
			return s.result()
		}}
}

func skopeoPusher(t *testing.T, name, root, path string) pusher {
	t.Helper()
	skopeo := inRoot(t, root, trust(t), path)
	return pusher{name,
		func(l local, ref string) (string, error) {
			return skopeo("copy", "--dest-tls-verify=false", "oci:"+l.oci+":v1", "docker://"+ref)
		},
		func(ref string) (string, error) {
			s := steps{run: skopeo}
			s.do("inspect", "--tls-verify=false", "--format={{.Digest}}", "docker://"+ref)
			s.do("copy", "--src-tls-verify=false", "docker://"+ref, "dir:"+scratch(t))
			return s.result()
		}}
}

func buildahPusher(t *testing.T) pusher {
	t.Helper()
	buildah := inRoot(t, "", containersConf(t, "127.0.0.1:5000"), need.Binary(t, "buildah"))
	return pusher{"buildah",
		func(l local, ref string) (string, error) {
			s := steps{run: buildah}
			id := strings.Fields(s.do("pull", "oci:"+l.oci+":v1") + " none")
			s.do("push", "--tls-verify=false", id[len(id)-2], "docker://"+ref)
			buildah("rmi", "--all", "--force")
			return s.result()
		},
		func(ref string) (string, error) {
			s := steps{run: buildah}
			s.do("pull", "--tls-verify=false", ref)
			container := strings.TrimSpace(s.do("from", "--pull=never", ref))
			s.do(append([]string{"run", "--isolation=chroot", container, "--"}, readHello...)...)
			s.do("rm", container)
			s.do("rmi", "--all", "--force")
			return s.result()
		}}
}

func cranePusher(t *testing.T) pusher {
	t.Helper()
	crane := inRoot(t, "", nil, need.Binary(t, "crane"), "--insecure")
	return pusher{"crane",
		func(l local, ref string) (string, error) { return crane("push", l.oci, ref) },
		func(ref string) (string, error) {
			dir := scratch(t)
			out, err := crane("pull", "--format=oci", ref, dir)
			return withIndex(out, err, dir)
		}}
}

func regctlPusher(t *testing.T) pusher {
	t.Helper()
	regctl := startRegctl(t)
	return pusher{"regctl",
		func(l local, ref string) (string, error) {
			return regctl("image", "copy", "ocidir://"+l.oci+":v1", ref)
		},
		func(ref string) (string, error) {
			dir := filepath.Join(scratch(t), "oci")
			out, err := regctl("image", "copy", ref, "ocidir://"+dir+":v1")
			return withIndex(out, err, dir)
		}}
}

// startRegctl returns regctl, told that the registries of the tests have no TLS.
func startRegctl(t *testing.T) func(args ...string) (string, error) {
	t.Helper()
	var hosts []string
	for _, host := range append([]string{"127.0.0.1:5000", "127.0.0.1:5010"}, plainHosts...) {
		hosts = append(hosts, fmt.Sprintf("%q: {\"tls\": \"disabled\"}", host))
	}
	file := filepath.Join(scratch(t), "regctl.json")
	if err := os.WriteFile(file, []byte(`{"hosts": {`+strings.Join(hosts, ", ")+`}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	return inRoot(t, "", []string{"REGCTL_CONFIG=" + file}, need.Binary(t, "regctl"))
}

func orasPusher(t *testing.T, root string) pusher {
	t.Helper()
	oras := inRoot(t, root, nil, "/usr/bin/oras")
	return pusher{"oras",
		func(l local, ref string) (string, error) {
			return oras("cp", "--from-oci-layout", l.oci+":v1", "--to-plain-http", ref)
		},
		func(ref string) (string, error) {
			dir := scratch(t)
			out, err := oras("cp", "--from-plain-http", ref, "--to-oci-layout", dir+":v1")
			return withIndex(out, err, dir)
		}}
}

// withIndex is what a client printed and what it wrote into a layout's index.
func withIndex(printed string, err error, dir string) (string, error) {
	if err != nil {
		return printed, fmt.Errorf("%w\n%s", err, printed)
	}
	index, err := os.ReadFile(filepath.Join(dir, "index.json"))
	return printed + string(index), err
}

// buildkitPusher builds what it pushes, and builds upon what it pulls.
func buildkitPusher(t *testing.T) pusher {
	t.Helper()
	var plain string
	for _, host := range plainHosts {
		plain += fmt.Sprintf("[registry.%q]\n  http = true\n", host)
	}
	control := startBuildKit(t, plain)
	build := func(dir string, more ...string) (string, error) {
		return control(append([]string{"build", "--progress=plain", "--no-cache", "--frontend=dockerfile.v0",
			"--local=context=" + dir, "--local=dockerfile=" + dir}, more...)...)
	}
	return pusher{"buildkit",
		func(l local, ref string) (string, error) {
			return build(l.build, "--output=type=image,name="+ref+",push=true")
		},
		func(ref string) (string, error) {
			dir := scratch(t)
			text := fmt.Sprintf("FROM %s\nRUN [%q, %q, %q]\n", ref, readHello[0], readHello[1], readHello[2])
			if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644); err != nil {
				return "", err
			}
			return build(dir)
		}}
}
