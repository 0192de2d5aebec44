package clients

import (
	"testing"

	"hostlocal/cmd/testdeps/need"
)

// docker29Pusher is the daemon that Docker 29 is, with a command line of 28.
func docker29Pusher(t *testing.T) pusher {
	t.Helper()
	inNamespaces(t)
	root := newerRoot(t)
	return dockerPusher(t, "docker-29", &docker{t: t, root: root, client: "/usr/bin/docker"}, bringIn(t, root, need.Binary(t, "dockerd-29")), nil)
}

// TestRefusedPushSaysWhatToDo reads what each client shows to the person who pushes
// where nothing is taken: to a daemon that takes no pushes, and to a name of the hub's
// while there is no hub, which most clients first look for there.
func TestRefusedPushSaysWhatToDo(t *testing.T) {
	clients := append(pushers(t), docker29Pusher(t))
	hub := startHub(t)
	b := bucketKinds["folder"](t)
	here := startDaemon(t, setup{store: b.store, push: true})
	off := startDaemon(t, setup{host: 1, store: b.store})
	for _, c := range clients {
		t.Run(c.name+" to one that takes none", func(t *testing.T) {
			ref := off.addr + "/team/app:v1"
			c.wantRefused(t, makeLocal(t, "hello from "+c.name, smallBulk, ref), ref, "takes no pushes", "push: loopback")
		})
	}
	hub.goAway()
	for _, c := range clients {
		t.Run(c.name+" to a name of the hub's", func(t *testing.T) {
			ref := here.addr + "/app:v1"
			c.wantRefused(t, makeLocal(t, "hello from "+c.name, smallBulk, ref), ref, "only mirrored", "push to a name of two components (team/app)")
		})
	}
}
