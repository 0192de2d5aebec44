package clients

import (
	"encoding/json"
	"testing"

	"hostlocal/cmd/testdeps/need"
)

// TestIndexesOfSeveralPlatformsArePushed has each client that makes or copies an index
// push one through one daemon, all its images with it; the other daemon has all of it
// at once.
func TestIndexesOfSeveralPlatformsArePushed(t *testing.T) {
	inNamespaces(t)
	root := newerRoot(t)
	f := startFleet(t, "minio")
	f.hub.goAway()
	repo := f.here.addr + "/team/many"
	crane := func(args ...string) { t.Helper(); run(t, nil, "crane", append(args, "--insecure")...) }
	l := makeLocal(t, "hello from an image for two", smallBulk, repo+":amd64")
	crane("push", l.oci, repo+":amd64")
	crane("mutate", repo+":amd64", "--set-platform=linux/arm64", "--tag="+repo+":arm64")

	podman := inRoot(t, root, append(containersConf(t, "127.0.0.1:5000"), "PODMAN_IGNORE_CGROUPSV1_WARNING=1"), "/usr/bin/podman", "--cgroup-manager=cgroupfs", "--events-backend=file")
	skopeo := inRoot(t, "", trust(t), need.Binary(t, "skopeo"))
	oras := inRoot(t, root, nil, "/usr/bin/oras")
	regctl := startRegctl(t)
	build := startBuildKit(t, "")
	from := "docker://" + repo + "-crane:v1"
	for _, c := range []struct {
		name  string
		steps func(s *steps, to string)
		run   func(args ...string) (string, error)
	}{
		{"crane", func(s *steps, to string) {
			s.do("index", "append", "--insecure", "--manifest="+repo+":amd64", "--manifest="+repo+":arm64", "--tag="+to)
		}, inRoot(t, "", nil, need.Binary(t, "crane"))},
		{"podman", func(s *steps, to string) {
			s.do("manifest", "create", "many")
			s.do("manifest", "add", "--tls-verify=false", "many", "docker://"+repo+":amd64")
			s.do("manifest", "add", "--tls-verify=false", "many", "docker://"+repo+":arm64")
			s.do("manifest", "push", "--all", "--tls-verify=false", "many", "docker://"+to)
		}, podman},
		{"skopeo", func(s *steps, to string) {
			s.do("copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", from, "docker://"+to)
		}, skopeo},
		{"regctl", func(s *steps, to string) { s.do("image", "copy", repo+"-crane:v1", to) }, regctl},
		{"oras", func(s *steps, to string) {
			s.do("cp", "--from-plain-http", "--to-plain-http", repo+"-crane:v1", to)
		}, oras},
		{"buildkit", func(s *steps, to string) {
			s.do("build", "--progress=plain", "--frontend=dockerfile.v0", "--opt=platform=linux/amd64,linux/arm64",
				"--local=context="+l.build, "--local=dockerfile="+l.build, "--output=type=image,name="+to+",push=true")
		}, build},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := steps{run: c.run}
			c.steps(&s, repo+"-"+c.name+":v1")
			if out, err := s.result(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			f.wantSame(t, "team/many-"+c.name)
			wantWhole(t, f.beside.addr+"/team/many-"+c.name+":v1")
			if got := f.beside.platforms(t, "team/many-"+c.name); got["amd64"] != 1 || got["arm64"] != 1 {
				t.Errorf("it has images for %v", got)
			}
		})
	}
}

// platforms counts the images of tag v1 by their processor.
func (d *daemon) platforms(t *testing.T, repo string) map[string]int {
	t.Helper()
	_, body := d.ask(t, repo, "v1")
	var index struct {
		Manifests []struct {
			Platform struct {
				Architecture string `json:"architecture"`
			} `json:"platform"`
		} `json:"manifests"`
	}
	if err := json.Unmarshal(body, &index); err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, m := range index.Manifests {
		n[m.Platform.Architecture]++
	}
	return n
}
