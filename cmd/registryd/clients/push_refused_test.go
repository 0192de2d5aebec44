package clients

import (
	"net"
	"os/exec"
	"strings"
	"testing"

	"hostlocal/cmd/testdeps/need"
)

// TestPushToMirroredNameSaysWhatToDo reads what each client shows to the person who
// pushes to a name that is an upstream's.
func TestPushToMirroredNameSaysWhatToDo(t *testing.T) {
	clients := pushers(t)
	f := startFleet(t, "folder")
	for _, c := range clients {
		for name, words := range map[string][]string{
			"app":              {"only mirrored", "push to a name of two components (team/app)"},
			"ghcr.io/team/app": {"only mirrored", "push to a name without ghcr.io (team/app)"},
			"quay.io/team/app": {"not a configured registry", "begins with no registry's (team/app)"},
		} {
			t.Run(c.name+" to "+name, func(t *testing.T) {
				ref := f.here.addr + "/" + name + ":v1"
				c.wantRefused(t, makeLocal(t, "hello from "+c.name, smallBulk, ref), ref, words...)
			})
		}
	}
}

// TestPushFromElsewhereIsRefused reads what is shown to whoever pushes by an
// address that other hosts reach too.
func TestPushFromElsewhereIsRefused(t *testing.T) {
	clients := pushers(t)
	haveOutsideAddr(t)
	startHub(t)
	b := bucketKinds["folder"](t)
	d := startDaemon(t, setup{store: b.store, push: true, open: true})
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			ref := strings.Replace(d.addr, "127.0.0.1", outsideAddr, 1) + "/team/app:v1"
			c.wantRefused(t, makeLocal(t, "hello from "+c.name, smallBulk, ref), ref, "from this registry's own host only", "use its loopback address")
		})
	}
}

// wantRefused has a push fail with these words shown, and at once: a client that
// takes it for something that passes tries again, and shows it as often.
func (p pusher) wantRefused(t *testing.T, l local, ref string, words ...string) {
	t.Helper()
	out, err := p.push(l, ref)
	if err == nil {
		t.Fatalf("the push was taken\n%s", out)
	}
	shown := out + err.Error()
	t.Logf("shown:\n%s", shown)
	if strings.Contains(shown, "retrying") {
		t.Error("the client tried again")
	}
	for _, word := range words {
		if !strings.Contains(shown, word) {
			t.Errorf("%q is not shown", word)
		}
	}
}

// haveOutsideAddr gives this host an address that is not loopback, on the loopback
// interface of the tests' namespace.
func haveOutsideAddr(t *testing.T) {
	t.Helper()
	if out, err := exec.Command(need.Binary(t, "ip"), "addr", "replace", outsideAddr+"/32", "dev", "lo").CombinedOutput(); err != nil {
		t.Fatalf("ip addr: %v\n%s", err, out)
	}
	if l, err := net.Listen("tcp", outsideAddr+":0"); err != nil {
		t.Fatal(err)
	} else {
		l.Close()
	}
}
