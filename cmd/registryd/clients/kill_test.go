package clients

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// TestKilledInMidPullGoesOnWhereItWas kills the daemon while a blob is on its
// way. After the restart the blob is whole, and what had landed before the
// kill was not fetched again.
func TestKilledInMidPullGoesOnWhereItWas(t *testing.T) {
	inNamespaces(t)
	h := startHub(t)
	d := startDaemon(t, setup{})
	debian, _ := makeImages(t)
	blob := largestLayer(t, amd64Of(t, debian))
	digest := blob.Digest.String()

	// A client that has read what the hub gave knows that the daemon has it.
	const landed = 8 << 20
	release := h.holdAfter(digest, landed)
	manifest, err := remote.Head(ref(t, d.addr+"/library/debian:12"), remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("pulling %s of %s", digest, manifest.Digest)
	resp, err := http.Get(fmt.Sprintf("http://%s/v2/library/debian/blobs/%s", d.addr, digest))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	const span = 1 << 20 // the last span is not whole, and so need not be remembered
	if _, err := io.CopyN(io.Discard, resp.Body, landed-span); err != nil {
		t.Fatalf("the first %d bytes did not arrive: %v", landed-span, err)
	}
	d.kill()
	release()

	d.run()
	run(t, nil, "crane", "pull", "--insecure", "--format=oci", d.addr+"/library/debian:12", scratch(t))
	if sent, most := h.sent(digest), blob.Size+2*span; sent > most {
		t.Errorf("the hub sent %d bytes of a blob of %d, want at most %d: what had landed was fetched again", sent, blob.Size, most)
	}
	h.wantOnlyDaemons()
}
