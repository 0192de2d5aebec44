package registryd

import (
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"hostlocal/manifest"
)

// An answer takes no more of the stack than the 8 KiB that net/http needs anyway:
// one local variable too many on the way doubles it, and with it what a storm of
// thousands of connections has resident.
func TestAnAnswerTakesLittleOfTheStack(t *testing.T) {
	body := pattern(200_000)
	all := map[string]func(h *tester) string{
		"manifest": func(h *tester) string { h.manifest("a/b", "t", "{}"); return "/v2/a/b/manifests/t" },
		"memory": func(h *tester) string {
			d := manifest.DigestOf(body)
			h.setBlob(d, func(int64) (hold, error) { return memoryHold(body), nil })
			return blobPath(d)
		},
		"file": func(h *tester) string { d, _ := h.file(body); return blobPath(d) },
		"fill": func(h *tester) string {
			gate := make(chan struct{})
			close(gate)
			return blobPath(h.fill(&fillHold{body: body, size: int64(len(body)), gate: gate}))
		},
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it would shrink them again
	for name, prepare := range all {
		t.Run(name, func(t *testing.T) {
			h := newTester(t, HandlerOptions{})
			path := prepare(h)
			const clients = 300
			runtime.GC()
			before := stacks()
			for range clients {
				c := h.dial()
				c.send("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n")
				res, err := http.ReadResponse(c.r, nil)
				if err != nil {
					t.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != 200 {
					t.Fatalf("status %d, %d bytes, %v", res.StatusCode, n, err)
				}
			}
			h.settled(clients, clients)
			t.Logf("%d bytes of stack a connection", (stacks()-before)/clients)
			if each := (stacks() - before) / clients; each > 10<<10 && !underRace {
				t.Errorf("%d bytes of stack a connection", each)
			}
		})
	}
}

// underRace is set by race_test.go.
var underRace bool

// The same with a cache: each client's blob is being filled while it reads.
func TestAColdAnswerTakesLittleOfTheStack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	g, up, _, _ := warmRegistry(t)
	h := serve(t, NewHandler(g, HandlerOptions{}))
	defer h.shutdown()
	// The stacks of fills that have ended stay with the runtime for the next ones: the
	// first of them are not the clients', and fills come one after another.
	const first, clients = 20, 100
	var blobs []manifest.Digest
	for i := range first + clients {
		body := pattern(200_000 + i)
		d := manifest.DigestOf(body)
		up.blobs["library/app@"+d.String()] = body
		blobs = append(blobs, d)
	}
	runtime.GC()
	before, fills := int64(0), 0
	for i, d := range blobs {
		if i == first {
			h.settled(first, first)
			before, fills = stacks(), 0
		}
		c := h.dial()
		c.send("GET " + blobPath(d) + " HTTP/1.1\r\nHost: h\r\n\r\n")
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != 200 {
			t.Fatalf("status %d, %d bytes, %v", res.StatusCode, n, err)
		}
		for !g.disk.Has(d) {
			time.Sleep(time.Millisecond)
		}
		if res.Header.Get("X-Registryd-Source") == SourceFill {
			fills++ // the others were complete before anybody looked
		}
	}
	h.settled(first+clients, first+clients)
	if fills < clients/2 {
		t.Errorf("only %d blobs were read while they were filled", fills)
	}
	t.Logf("%d bytes of stack a connection", (stacks()-before)/clients)
	if each := (stacks() - before) / clients; each > 10<<10 && !underRace { // the fills have some, too
		t.Errorf("%d bytes of stack a connection", each)
	}
}

// stacks is what goroutines have of the memory, in bytes.
func stacks() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.StackInuse)
}
