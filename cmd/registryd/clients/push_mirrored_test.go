package clients

import (
	"path/filepath"
	"slices"
	"testing"
)

// TestArtifactsOfMirroredImagesShowUp attaches to an image at the hub, a stock registry
// that has no referrers API, and looks through a daemon, with a hub and without. What
// hangs on the image is then copied into a repository of the bucket's own.
func TestArtifactsOfMirroredImagesShowUp(t *testing.T) {
	inNamespaces(t)
	root := newerRoot(t)
	f := startFleet(t, "folder")
	const atHub = "127.0.0.1:5500/signed/app"
	dir := scratch(t)
	write(t, dir, "bill.txt", "one busybox")
	write(t, dir, "sign.txt", "it is mine")
	oras := func(args ...string) string {
		t.Helper()
		return runIn(t, root, "/bin/sh", append([]string{"-c", `cd "$0" && exec oras "$@"`, dir}, args...)...)
	}
	regctl := startRegctl(t)
	l := makeLocal(t, "hello from the hub, signed", smallBulk, atHub+":v1")
	run(t, nil, "crane", "push", "--insecure", l.oci, atHub+":v1")
	oras("attach", "--plain-http", "--artifact-type="+billType, atHub+":v1", "bill.txt")
	oras("attach", "--plain-http", "--artifact-type="+signType, atHub+":v1", "sign.txt")

	want := []string{billType, signType}
	look := func(d *daemon, repo string) {
		t.Helper()
		ref := d.addr + "/" + repo + ":v1"
		if got := referrersBy(t, oras("discover", "--plain-http", "--format=json", ref)); !slices.Equal(got, want) {
			t.Errorf("oras discovers %v of %s, want %v", got, ref, want)
		}
		out, err := regctl("artifact", "list", "--format=body", ref)
		if err != nil {
			t.Fatalf("regctl artifact list: %v\n%s", err, out)
		}
		if got := referrersBy(t, out); !slices.Equal(got, want) {
			t.Errorf("regctl lists %v of %s, want %v", got, ref, want)
		}
	}
	const mirrored = "docker.io/signed/app"
	look(f.here, mirrored)
	run(t, nil, "crane", "pull", "--insecure", "--format=oci", f.here.addr+"/"+mirrored+":v1", filepath.Join(dir, "pulled"))
	oras("cp", "-r", "--from-plain-http", "--to-plain-http", f.here.addr+"/"+mirrored+":v1", f.here.addr+"/team/signed:v1")
	f.hub.goAway()
	look(f.here, mirrored)
	look(f.here, "team/signed")
	look(f.beside, "team/signed")
}
