package clients

import (
	"os"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	"hostlocal/cmd/testdeps/need"
)

// TestStockRegistrysFolderIsServedInPlace lets a stock registry write, and
// registryd read, as a team does that changes from the one to the other.
func TestStockRegistrysFolderIsServedInPlace(t *testing.T) {
	need.Root(t)
	h := startHub(t)
	dir := scratch(t)
	if err := os.CopyFS(dir, os.DirFS(hubContent(t))); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, setup{store: "{url: file://" + dir + "}"})
	contacts := h.contacts.Load()
	wantWhole(t, d.addr+"/owner/app:v1")
	if h.contacts.Load() != contacts {
		t.Error("the upstream was asked for an image that is the bucket's own")
	}
}

// TestStockRegistryServesWhatWasPushed is the other direction: nothing that
// registryd keeps binds anybody to it.
func TestStockRegistryServesWhatWasPushed(t *testing.T) {
	need.Root(t)
	dir := scratch(t)
	d := startDaemon(t, setup{own: "team/*", store: "{url: file://" + dir + ", push: loopback}"})
	debian, _ := makeImages(t)
	if err := remote.WriteIndex(ref(t, d.addr+"/team/debian:12"), debian, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	d.stop()

	const stock = "127.0.0.1:5600"
	stockRegistry(t, dir, stock)
	wantWhole(t, stock+"/team/debian:12")
}

// TestStockRegistryServesWhatWasMirrored reads the mirrored image under the
// name that it has in the bucket.
func TestStockRegistryServesWhatWasMirrored(t *testing.T) {
	need.Root(t)
	startHub(t)
	b := bucketKinds["folder"](t)
	d := startDaemon(t, setup{store: b.store})
	run(t, nil, "crane", "pull", "--insecure", "--format=oci", d.addr+"/library/debian:12", scratch(t))
	d.ready(func() error { return b.hasImage(t) })
	d.stop()

	const stock = "127.0.0.1:5600"
	stockRegistry(t, b.folder, stock)
	wantWhole(t, stock+"/docker.io/library/debian:12", "--platform=linux/amd64")
}

// wantWhole has crane read every byte of an image and check it against its
// digests and descriptors.
func wantWhole(t *testing.T, image string, more ...string) {
	t.Helper()
	run(t, nil, "crane", append([]string{"validate", "--insecure", "--remote", image}, more...)...)
}
