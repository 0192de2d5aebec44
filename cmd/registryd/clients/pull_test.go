package clients

import (
	"strings"
	"testing"
)

// puller is a container client set up to use a daemon as its mirror.
type puller struct {
	pull   func() // docker.io/library/debian:12, whole, failing the test if not
	forget func() // make the next pull fetch everything again

	// spare is how many bytes of a layer the hub may send in vain: a client that
	// asks for ranges can make superfluous what is on its way already.
	spare int64
}

// coldThenWarm is what every client must show: the first pull fills the
// daemon from the hub, which sends each layer once, and the client never
// speaks to the hub itself; the
// second, with the hub gone, is served from this host's disk alone.
func coldThenWarm(t *testing.T, client func(t *testing.T, d *daemon) puller) {
	t.Helper()
	debian, _ := makeImages(t)
	size := layersSize(t, amd64Of(t, debian))
	h := startHub(t)
	d := startDaemon(t, setup{})
	c := client(t, d)

	c.pull()
	h.wantOnlyDaemons()
	h.wantFetchedOnce(t, amd64Of(t, debian), c.spare)

	c.forget()
	before := h.goAway()
	d.wantFromDisk(size, c.pull)
	h.wantNoContact(before)
}

// wantHello checks the output of a container that was told to say hello.
func wantHello(t *testing.T, out string) {
	t.Helper()
	if !strings.Contains(out, "hello from the image") {
		t.Errorf("the container said %q", out)
	}
}
