package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestComposeBringsUpTheWhole is what docker-compose.yml says at its top, with
// the images built and started by Docker 28. What is added to the file leads
// to the hub, which is here on the same host, and into the frame of the Docker
// inside; see standIns.
func TestComposeBringsUpTheWhole(t *testing.T) {
	inNamespaces(t)
	root := newerRoot(t)
	debian, _ := makeImages(t)
	hub := startHub(t)
	// Its mirror is the port that the composition publishes.
	outer := &docker{t: t, root: root, client: "/usr/bin/docker"}
	outer.start("/usr/sbin/dockerd", "127.0.0.1:5000", nil)
	makeStandIns(t, outer)
	c := newComposition(t, outer)

	c.do("up", "-d", "--build", "--wait")
	if out := c.do("ps", "--all", "--format={{.Service}} {{.Health}}"); len(strings.Fields(out)) != 6 || strings.Count(out, " healthy") != 3 {
		t.Errorf("not three healthy services:\n%s", out)
	}
	pull := func() { t.Helper(); c.do("exec", "-T", "docker", "docker", "pull", "debian:12") }
	forget := func() { t.Helper(); c.do("exec", "-T", "docker", "docker", "rmi", "debian:12") }
	pull()
	hub.wantOnlyDaemons()
	hub.wantFetchedOnce(t, amd64Of(t, debian), 0)
	if out := c.do("exec", "-T", "registryd", "/registryd", "status"); !strings.Contains(out, "/var/cache/registryd") {
		t.Errorf("its status:\n%s", out)
	}
	c.waitForWriteBack()
	c.wantImageAlone()

	hub.goAway()
	outer.do("pull", "debian:12") // this host's own Docker, by the published port
	c.do("down")
	c.do("up", "-d", "--wait")
	forget()
	pull() // from the disk, which outlived the containers

	c.do("down")
	outer.do("volume", "rm", c.name+"_registryd-cache")
	c.do("up", "-d", "--wait")
	forget()
	pull() // from the bucket, which outlived them too

	c.do("down", "--volumes")
	if left := outer.do("volume", "ls", "--quiet"); left != "" {
		t.Errorf("volumes were left behind:\n%s", left)
	}
}

// composition is the repository's docker-compose.yml in a Docker of the test.
type composition struct {
	t      *testing.T
	docker *docker
	name   string
	args   []string // of docker compose, before its command
}

func newComposition(t *testing.T, d *docker) *composition {
	t.Helper()
	more := filepath.Join(scratch(t), "more.yml")
	text := fmt.Sprintf(`services:
  registryd:
    extra_hosts: ['registry-1.docker.io:host-gateway', 'auth.docker.io:host-gateway']
    environment: {SSL_CERT_FILE: /hub.crt}
    volumes: ['%s:/hub.crt:ro']
  docker:
    volumes: ['/usr:/usr:ro', '/etc/alternatives:/etc/alternatives:ro']
`, trustFile(t))
	if err := os.WriteFile(more, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	folder := bringIn(t, d.root, repository)
	const name = "composed"
	return &composition{t, d, name, []string{"compose", "--project-name=" + name, "--progress=plain",
		"--project-directory=" + folder, "--file=" + filepath.Join(folder, "docker-compose.yml"), "--file=" + more}}
}

func (c *composition) do(args ...string) string {
	c.t.Helper()
	out, err := c.docker.try(append(c.args, args...)...)
	if err != nil {
		logs, _ := c.docker.try(append(c.args, "logs", "--tail=20")...)
		c.t.Fatalf("docker compose %q: %v\n%s\n%s", args, err, out, logs)
	}
	return out
}

// wantImageAlone runs the image as its Dockerfile says, without a word of
// configuration: it serves, fills the volumes that it was given, which belong
// to nobody's account, and is gone within the time that Docker gives it.
func (c *composition) wantImageAlone() {
	c.t.Helper()
	const addr = "127.0.0.1:5002"
	c.docker.do("run", "--detach", "--name=alone", "--publish="+addr+":5000",
		"--volume=alone-cache:/var/cache/registryd", "--volume=alone-store:/var/lib/registryd",
		"--add-host=registry-1.docker.io:host-gateway", "--add-host=auth.docker.io:host-gateway",
		"--env=SSL_CERT_FILE=/hub.crt", "--volume="+trustFile(c.t)+":/hub.crt:ro", c.name+"-registryd")
	c.docker.ready(func() error {
		if health := c.docker.do("inspect", "--format={{.State.Health.Status}}", "alone"); strings.TrimSpace(health) != "healthy" {
			return fmt.Errorf("its health is %q", health)
		}
		return nil
	})
	wantWhole(c.t, addr+"/library/debian:12")
	if out := c.docker.do("exec", "alone", "/registryd", "status", "--json"); !strings.Contains(out, "/var/cache/registryd") {
		c.t.Errorf("the image alone says:\n%s", out)
	}
	c.docker.do("stop", "--time=5", "alone")
	if code := c.docker.do("inspect", "--format={{.State.ExitCode}}", "alone"); strings.TrimSpace(code) != "0" {
		c.t.Errorf("stopped, it left with exit code %s", code)
	}
	c.docker.do("rm", "alone")
	c.docker.do("volume", "rm", "alone-cache", "alone-store")
}

// waitForWriteBack waits until the bucket has all that was pulled.
func (c *composition) waitForWriteBack() {
	c.t.Helper()
	c.docker.ready(func() error {
		out := c.do("exec", "-T", "registryd", "/registryd", "status")
		if !strings.Contains(out, "write-back  0 pending") {
			return fmt.Errorf("the bucket still lacks something:\n%s", out)
		}
		return nil
	})
}
