package clients

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TestServiceOnBootedHost is registryd under a real systemd, with the unit
// files as they are: each part checks what a line in them promises. The parts
// share a host, which boots once, and follow one another.
func TestServiceOnBootedHost(t *testing.T) {
	inNamespaces(t)
	debian, _ := makeImages(t)
	blob := largestLayer(t, amd64Of(t, debian))
	hub := startHub(t)
	h := bootHost(t)

	// As the unit's first lines say. It returns when the daemon is ready.
	h.do("systemctl", "enable", "--now", "registryd.socket", "registryd.service")
	if state, status := h.show("ActiveState"), h.show("StatusText"); state != "active" || !strings.Contains(status, "127.0.0.1:5000") {
		t.Fatalf("the service is %s: %q", state, status)
	}
	h.wantConfined()

	// Killed in the middle of a fill: the next client comes before the daemon
	// is back and waits at the socket; what had landed is not fetched again.
	const landed, span = 8 << 20, 1 << 20 // a span that is not whole need not be remembered
	release := hub.holdAfter(blob.Digest.String(), landed)
	if _, err := io.CopyN(io.Discard, h.open(blob), landed-span); err != nil {
		t.Fatal(err)
	}
	h.kill()
	release()
	h.pull("library/debian:12")
	hub.wantOnlyDaemons()
	if sent, most := hub.sent(blob.Digest.String()), blob.Size+2*span; sent > most {
		t.Errorf("the hub sent %d bytes of a layer of %d, want at most %d: what had landed was fetched again", sent, blob.Size, most)
	}
	h.wantRestarts(1)

	before := hub.goAway()
	h.kill()
	h.pull("library/debian:12")
	h.wantRestarts(2)

	h.wantStopsInTime(blob)
	h.pull("library/debian:12") // the socket starts the daemon
	h.wantRestartsOfHung()
	h.pull("library/debian:12")
	hub.wantNoContact(before)
}

// open asks for a blob and returns its body, of which nothing was read yet.
func (h *host) open(blob v1.Descriptor) io.Reader {
	h.t.Helper()
	const repository = "http://127.0.0.1:5000/v2/library/debian"
	for _, url := range []string{repository + "/manifests/12", repository + "/blobs/" + blob.Digest.String()} {
		resp, err := http.Get(url)
		if err != nil {
			h.t.Fatal(err)
		}
		h.t.Cleanup(func() { resp.Body.Close() })
		if resp.StatusCode != http.StatusOK {
			h.t.Fatalf("%s: %s", url, resp.Status)
		}
		if strings.Contains(url, "/blobs/") {
			return resp.Body
		}
	}
	return nil
}

// wantConfined checks by the kernel's word that the daemon is nobody and may
// nothing, and that others may not look into its folders.
func (h *host) wantConfined() {
	h.t.Helper()
	status := h.do("cat", "/proc/"+h.show("MainPID")+"/status")
	for _, line := range []string{"NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "Seccomp:\t2"} {
		if !strings.Contains(status, line+"\n") {
			h.t.Errorf("the daemon's status has no %q:\n%s", line, status)
		}
	}
	if strings.Contains(status, "Uid:\t0\t") {
		h.t.Error("the daemon runs as root")
	}
	// The slash at the end: both are links, because the account is made for the service.
	folders := h.do("stat", "--format=%n %a %U", "/var/cache/registryd/", "/var/lib/registryd/")
	if want := "/var/cache/registryd/ 700 registryd\n/var/lib/registryd/ 700 registryd"; folders != want {
		h.t.Errorf("the folders are\n%s\nwant\n%s", folders, want)
	}
}

// wantRestarts waits until systemd has started the daemon again so often.
func (h *host) wantRestarts(n int) {
	h.t.Helper()
	h.ready(func() error {
		if state, restarts := h.show("ActiveState"), h.showInt("NRestarts"); state != "active" || restarts != n {
			return fmt.Errorf("the service is %s after %d restarts, want %d", state, restarts, n)
		}
		return nil
	})
}

// wantStopsInTime stops the daemon while a client reads nothing of what it
// asked for. systemd is the clock: it calls a stop that takes longer a failure.
func (h *host) wantStopsInTime(blob v1.Descriptor) {
	h.t.Helper()
	h.dropIn("stop", "TimeoutStopSec=5")
	h.open(blob)
	h.do("systemctl", "stop", "registryd.service")
	if state, result := h.show("ActiveState"), h.show("Result"); state != "inactive" || result != "success" {
		h.t.Errorf("stopped, the service is %s, its result %s", state, result)
	}
}

// wantRestartsOfHung checks that the daemon reports to the watchdog, and that
// one which does not answer is killed and started again.
func (h *host) wantRestartsOfHung() {
	h.t.Helper()
	// Shorter than the unit's, so that the test is.
	h.dropIn("watchdog", "WatchdogSec=4\nTimeoutAbortSec=1")
	h.do("systemctl", "restart", "registryd.service")
	last := h.show("WatchdogTimestampMonotonic")
	for range 2 {
		h.ready(func() error {
			beat := h.show("WatchdogTimestampMonotonic")
			if beat == last {
				return fmt.Errorf("no word to the watchdog since %s", last)
			}
			last = beat
			return nil
		})
	}
	if n := h.showInt("NRestarts"); n != 0 {
		h.t.Fatalf("the watchdog restarted a daemon that answers, %d times", n)
	}
	h.signal("SIGSTOP")
	h.wantRestarts(1)
	if journal := h.do("journalctl", "--no-pager", "--unit=registryd.service"); !strings.Contains(journal, "Watchdog timeout") {
		h.t.Errorf("it was not the watchdog that restarted the daemon:\n%s", journal)
	}
}

// dropIn adds lines to the service's section of the unit.
func (h *host) dropIn(name, lines string) {
	h.t.Helper()
	h.install("/etc/systemd/system/registryd.service.d/"+name+".conf", 0o644, []byte("[Service]\n"+lines+"\n"))
	h.do("systemctl", "daemon-reload")
}
