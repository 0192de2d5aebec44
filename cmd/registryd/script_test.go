package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"hostlocal/registryd/upstream/hubtest"
)

// stageEarly is a variable of the environment that says from how many bytes on a daemon of
// its own process stages blobs. Without it that is where everybody does.
const stageEarly = "TEST_STAGE_EARLY"

func TestMain(m *testing.M) {
	flag.Set("test.parallel", "8") // those of stalls and outages wait more than they work; -parallel overrides it
	stageFrom = 5 << 20            // S3's least part
	testscript.Main(m, map[string]func(){
		"registryd": func() {
			stageFrom, _ = strconv.ParseInt(os.Getenv(stageEarly), 10, 64)
			main()
		},
		"pull":   pullMain,
		"bare":   bareMain,
		"floor":  floorMain,
		"mortal": mortalMain,
	})
}

// TestScripts runs the files of testdata/script, which read as the manual. Each
// has a daemon's worth of environment, an upstream $HUB that it owns, and, beside
// what testscript knows and the programs registryd and pull, these commands:
//
//	expand FILE           put the environment's variables into a file
//	ready                 wait until a daemon that was started has said that it is
//	settled               wait until the daemon has no fill under way any more
//	hub image NAME SIZE.. put an image with layers of these sizes into the upstream
//	hub down              take the upstream off the network
//	hub up                bring it back
//	hub limit N LEFT      the upstream says from now on that it grants N pulls, LEFT are left
//	hub served N          the upstream has had N requests for blobs, in all
//	archive KIND PATH NAME SIZE..
//	                      make an archive of an image with layers of these sizes: docker
//	                      (docker save's), tar (an OCI layout in one), layout (a folder) or
//	                      damaged (docker's, with a wrong byte)
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup:               setUp,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"expand":  expand,
			"ready":   ready,
			"settled": settled,
			"hub":     hub,
			"archive": makeArchive,
		},
	})
}

// The keys of what a script's commands share.
type (
	hubKey    struct{}
	notifyKey struct{}
)

// setUp gives a script its upstream, its folders and its sockets. All listeners of
// the daemon are unix sockets, so that scripts cannot meet at a port.
func setUp(env *testscript.Env) error {
	h := hubtest.New(env.T().(testing.TB))
	env.Values[hubKey{}] = h
	notify := filepath.Join(env.WorkDir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		return err
	}
	env.Defer(func() { conn.Close() })
	env.Values[notifyKey{}] = conn
	for name, value := range map[string]string{
		"HOME":                env.WorkDir,
		"HUB":                 h.Host,
		"NOTIFY_SOCKET":       notify,
		"REGISTRYD_LISTEN":    "unix://" + env.WorkDir + "/registry.sock",
		"REGISTRYD_ADMIN":     "unix://" + env.WorkDir + "/admin.sock",
		"REGISTRYD_CACHE_DIR": env.WorkDir + "/cache",
		"REGISTRYD_STORE_URL": "file://" + env.WorkDir + "/store",
	} {
		env.Setenv(name, value)
	}
	return nil
}

// expand puts the environment into a file.
func expand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: expand FILE")
	}
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// startLimit bounds how long a daemon may take to be ready in a test: far more
// than it needs, on a machine that does much else.
const startLimit = 30 * time.Second

// ready waits for READY=1, which is how systemd learns of it too.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: ready")
	}
	conn := ts.Value(notifyKey{}).(*net.UnixConn)
	ts.Check(conn.SetReadDeadline(time.Now().Add(startLimit)))
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			ts.Fatalf("no daemon became ready: %v", err)
		}
		if strings.Contains(string(buf[:n]), "READY=1") {
			return
		}
	}
}

// settled waits until the running daemon has published all that it fetched: a
// client has its last byte a little before.
func settled(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: settled")
	}
	ask := newClient(ts.Getenv("REGISTRYD_ADMIN"))
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for {
		var o overview
		ts.Check(ask.get(ctx, "/api/v1/status", nil, &o))
		if len(o.Cache.Fills) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("fills are still under way: %+v", o.Cache.Fills)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// hub changes the upstream, or asks what it was asked.
func hub(ts *testscript.TestScript, neg bool, args []string) {
	h := ts.Value(hubKey{}).(*hubtest.Hub)
	switch {
	case neg:
		ts.Fatalf("hub knows no negation")
	case len(args) >= 2 && args[0] == "image":
		name, tag, ok := strings.Cut(args[1], ":")
		if !ok {
			ts.Fatalf("%s has no tag", args[1])
		}
		var layers []hubtest.Content
		for _, arg := range args[2:] {
			n, err := parseSize(arg)
			ts.Check(err)
			layers = append(layers, h.Layer(n.bytes))
		}
		h.AddImage(name, tag, layers...)
	case len(args) == 1 && args[0] == "down":
		h.Down()
	case len(args) == 1 && args[0] == "up":
		h.Up()
	case len(args) == 3 && args[0] == "limit":
		h.Fault(hubtest.All(), hubtest.Header("Ratelimit-Limit", args[1]+";w=21600"), hubtest.Header("Ratelimit-Remaining", args[2]+";w=21600"))
	case len(args) == 2 && args[0] == "served":
		want, err := strconv.Atoi(args[1])
		ts.Check(err)
		if got := h.Count(hubtest.GetBlob); got != want {
			ts.Fatalf("the upstream had %d requests for blobs, want %d", got, want)
		}
	default:
		ts.Fatalf("usage: hub image NAME:TAG SIZE... | down | up | limit N LEFT | served N")
	}
}

// pullMain is the program pull: a client that knows no more than a client must. It
// prints each object's kind, size and source.
func pullMain() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: pull NAME[:TAG]")
		os.Exit(2)
	}
	if err := pull(strings.TrimPrefix(os.Getenv("REGISTRYD_LISTEN"), "unix://"), os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "pull:", err)
		os.Exit(1)
	}
}
