package registryd

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"hostlocal/manifest"
)

// request is the head of one with a body of n bytes, -1 for one in chunks.
func request(method, at string, n int, headers ...string) string {
	length := fmt.Sprintf("Content-Length: %d", n)
	if n < 0 {
		length = "Transfer-Encoding: chunked"
	}
	return method + " " + at + " HTTP/1.1\r\nHost: h\r\n" + strings.Join(append(headers, length), "\r\n") + "\r\n\r\n"
}

// answer reads one whole.
func (c *client) answer() got {
	c.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return got{res.StatusCode, res.Header, b, err}
}

// rude closes a connection without waiting for anything that was sent.
func (c *client) rude() {
	c.Conn.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// A client that is cut off at any byte goes on where the upload stands, at once.
func TestACutUploadGoesOnWhereItStands(t *testing.T) {
	p := newPusher(t)
	body := pattern(600_000)
	d := manifest.DigestOf(body)
	for _, cut := range []int{0, 1, 4095, 4096, 65_537, 262_143, 262_144, 262_145, 599_999} {
		for _, rude := range []bool{false, true} {
			for _, method := range []string{"PATCH", "PUT"} {
				at := p.begin("own/app")
				to := at
				if method == "PUT" {
					to += "?digest=" + d.String()
				}
				c := p.dial()
				c.send(request(method, to, len(body)) + string(body[:cut]))
				if rude {
					c.rude()
				} else {
					c.Close()
				}
				g, probed := p.get(at), false
				for tries := 0; ; tries++ { // one that comes before its broken request was read is told so
					if tries > 100 {
						t.Fatalf("%s cut at %d is told the same for ever: %d %q", method, cut, g.status, g.header.Get("Range"))
					}
					end := -1
					if fmt.Sscanf(g.header.Get("Range"), "0-%d", &end); end == 0 { // none, or one
						probed = p.send("PATCH", at, body[:1], "Content-Range: 0-0").status == 202
					}
					stands := end + 1
					if probed && stands > 1 {
						// The broken request, which says nothing of where its bytes belong, was
						// read behind our first one: nobody can go on with that.
						break
					}
					if stands > max(cut, 1) {
						t.Fatalf("%s cut at %d stands at %d", method, cut, stands)
					}
					g = p.send("PUT", at+"?digest="+d.String(), body[stands:], fmt.Sprintf("Content-Range: %d-%d", stands, len(body)-1))
					if g.status != 416 {
						p.wantPushed(g, "own/app", d, body)
						break
					}
				}
			}
		}
	}
}

func TestABrokenChunkIsTheClientsFault(t *testing.T) {
	p := newPusher(t)
	at := p.begin("own/app")
	c := p.dial()
	c.send(request("PATCH", at, -1) + "5\r\nhello\r\nzz\r\n")
	g := c.answer()
	p.wantError(g, 400, "BLOB_UPLOAD_INVALID")
	p.wantStands(at, 5)
}

func TestASilentClientIsEndedAndASlowOneIsNot(t *testing.T) {
	p := newPusher(t, func(p *pusher) { p.stall = 2 * time.Second })
	body := pattern(80 * 4096)
	d := manifest.DigestOf(body)
	slow, silent := p.begin("own/app"), p.begin("own/app")
	var both sync.WaitGroup
	both.Go(func() {
		c := p.dial()
		c.send(request("PUT", silent+"?digest="+d.String(), len(body)) + string(body[:1000]))
		g := c.answer()
		p.wantError(g, 408, "BLOB_UPLOAD_INVALID")
		c.wantClosed()
		p.wantStands(silent, 1000)
	})
	both.Go(func() {
		c := p.dial()
		c.send(request("PUT", slow+"?digest="+d.String(), len(body)))
		for off := 0; off < len(body); off += 4096 { // a step in 0.8 s, for two stalls
			c.send(string(body[off : off+4096]))
			time.Sleep(50 * time.Millisecond)
		}
		if g := c.answer(); g.status != 201 {
			t.Errorf("status %d: %s", g.status, g.body)
		}
	})
	both.Wait()
	p.wantStored("own/app", d, body)
}

// One byte now and then keeps nobody's connection for ever.
func TestATricklingClientIsEnded(t *testing.T) {
	p := newPusher(t, func(p *pusher) { p.stall = 500 * time.Millisecond })
	at := p.begin("own/app")
	c := p.dial()
	c.send(request("PATCH", at, 1000))
	ended := make(chan got, 1)
	go func() { ended <- c.answer() }()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		select {
		case g := <-ended:
			p.wantError(g, 408, "BLOB_UPLOAD_INVALID")
			return
		default:
		}
		if time.Now().After(end) {
			t.Fatal("it is still being listened to")
		}
		c.Write([]byte("x"))
	}
}

// The write deadline of a request is over long before the bucket has a large blob.
func TestAPushThatTakesLongGetsItsAnswer(t *testing.T) {
	p := newPusher(t, func(p *pusher) {
		p.serving = append(p.serving, func(s *Server) { s.http.WriteTimeout = 300 * time.Millisecond })
	})
	body := pattern(1000)
	d := manifest.DigestOf(body)
	at := p.begin("own/app")
	p.bucket.on("PUTBLOB", func(context.Context) error { time.Sleep(time.Second); return nil })
	p.wantPushed(p.send("PUT", at+"?digest="+d.String(), body), "own/app", d, body)
	p.bucket.on("PUTBLOB", func(context.Context) error { time.Sleep(time.Second); return errOutage })
	body = pattern(1001)
	p.wantError(p.send("PUT", p.begin("own/app")+"?digest="+manifest.DigestOf(body).String(), body), 503, "UNAVAILABLE")
}

func TestExpectContinue(t *testing.T) {
	p := newPusher(t)
	body := pattern(1000)
	d := manifest.DigestOf(body)
	at := p.begin("own/app")
	c := p.dial()
	c.send(request("PUT", at+"?digest="+d.String(), len(body), "Expect: 100-continue"))
	if s := c.status(); s != 100 {
		t.Fatalf("status %d", s)
	}
	c.send(string(body))
	p.wantPushed(c.answer(), "own/app", d, body)
	c = p.dial()
	c.send(request("PATCH", "/v2/own/app/blobs/uploads/none", 1000, "Expect: 100-continue"))
	if s := c.status(); s != 404 {
		t.Errorf("status %d", s)
	}
	c.wantClosed()
}

// Whoever leaves while the bucket takes the blob is told nothing, first of all no
// success; the upload stays, and what was sent is not lost.
func TestWhoLeavesIsNotToldThatAllIsWell(t *testing.T) {
	for _, half := range []bool{false, true} {
		t.Run(fmt.Sprintf("half %v", half), func(t *testing.T) {
			p := newPusher(t)
			body := pattern(100_000)
			d := manifest.DigestOf(body)
			at := p.begin("own/app")
			asked := make(chan struct{}, 10)
			p.bucket.on("LINKLAYER", func(ctx context.Context) error {
				asked <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			})
			c := p.dial()
			c.send(request("PUT", at+"?digest="+d.String(), len(body)) + string(body))
			<-asked
			if half {
				c.Conn.(*net.TCPConn).CloseWrite()
				c.wantClosed()
			} else {
				c.Close()
			}
			p.bucket.heal()
			p.wantStands(at, len(body))
			p.wantPushed(p.send("PUT", at+"?digest="+d.String(), nil), "own/app", d, body)
		})
	}
}

// The same of a manifest and of deletes: a 200 would be believed.
func TestWhoClosesHisEndBeforeTheAnswerIsToldNothing(t *testing.T) {
	body := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	for name, c := range map[string]struct{ call, request string }{
		"PUT of a tag":         {"PUTMANIFEST", request("PUT", "/v2/own/app/manifests/v1", len(body)) + string(body)},
		"DELETE of a tag":      {"REMOVETAG", request("DELETE", "/v2/own/app/manifests/v1", 0)},
		"DELETE of a manifest": {"REMOVEMANIFEST", request("DELETE", "/v2/own/app/manifests/"+manifest.DigestOf(body).String(), 0)},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPusher(t)
			asked := make(chan struct{}, 10)
			p.bucket.on(c.call, func(ctx context.Context) error {
				asked <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			})
			conn := p.dial()
			conn.send(c.request)
			<-asked
			conn.Conn.(*net.TCPConn).CloseWrite()
			conn.wantClosed()
		})
	}
}

// A client that has closed its end behind the last byte has sent all of them.
func TestWhatAClientSentBeforeItClosedItsEndIsKept(t *testing.T) {
	p := newPusher(t)
	body := pattern(3 << 20)
	at := p.begin("own/app")
	c := p.dial()
	c.send(request("PATCH", at, len(body)) + string(body))
	c.Conn.(*net.TCPConn).CloseWrite()
	p.waitFor("all is here", func() bool { return p.get(at).header.Get("Range") == fmt.Sprintf("0-%d", len(body)-1) })
}

func TestTwoPushersOfOneBlobBothSucceed(t *testing.T) {
	for _, way := range []string{"PUT", "PATCH"} {
		t.Run(way, func(t *testing.T) {
			p := newPusher(t)
			body := pattern(1 << 20)
			d := manifest.DigestOf(body)
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					repo := fmt.Sprint("own/app", i%2)
					at := p.begin(repo)
					last := any(body)
					if way == "PATCH" {
						p.want(p.send("PATCH", at, body), 202)
						last = nil
					}
					if g := p.send("PUT", at+"?digest="+d.String(), last); g.status != 201 {
						t.Errorf("status %d: %s", g.status, g.body)
					}
				})
			}
			all.Wait()
			p.wantStored("own/app0", d, body)
			p.wantStored("own/app1", d, body)
			// Who finds the blob there lets his upload go behind the answer if the disk is slow.
			p.waitFor("no upload is left", func() bool { return len(p.spooled()) == 0 })
		})
	}
}

// The one who has all of the bytes does not wait for the one who still sends them.
func TestASlowPusherHoldsUpNobody(t *testing.T) {
	p := newPusher(t)
	body := pattern(1 << 20)
	d := manifest.DigestOf(body)
	slow := p.dial()
	slow.send(request("PUT", p.begin("own/slow")+"?digest="+d.String(), len(body)) + string(body[:1000]))
	p.waitFor("the slow one is being sent", func() bool { return p.bucket.count("PUTBLOB") == 1 })
	at := p.begin("own/fast")
	p.want(p.send("PATCH", at, body), 202)
	p.wantPushed(p.send("PUT", at+"?digest="+d.String(), nil), "own/fast", d, body)
	slow.send(string(body[1000:]))
	p.wantPushed(slow.answer(), "own/slow", d, body)
}

func TestTheSameUploadTwiceAtOnce(t *testing.T) {
	p := newPusher(t)
	body := pattern(300_000)
	d := manifest.DigestOf(body)
	at := p.begin("own/app")
	first := p.dial()
	first.send(request("PATCH", at, len(body)) + string(body[:270_000]))
	p.waitFor("the first one has begun", func() bool { return p.get(at).header.Get("Range") == "0-262143" })
	for _, method := range []string{"PATCH", "PUT", "DELETE"} {
		g := p.send(method, at+"?digest="+d.String(), body)
		p.wantError(g, 409, "BLOB_UPLOAD_INVALID")
	}
	first.send(string(body[270_000:]))
	p.want(first.answer(), 202, "Range: 0-299999")
	p.wantPushed(p.send("PUT", at+"?digest="+d.String(), nil), "own/app", d, body)
}

// Many at once, each at the right offset or not: whatever is answered, no bytes but
// those that were acknowledged are there.
func TestARaceForOneUploadMixesNothingUp(t *testing.T) {
	p := newPusher(t)
	body := pattern(1 << 20)
	d := manifest.DigestOf(body)
	at := p.begin("own/app")
	const chunk = 64 << 10
	for off := 0; off < len(body); off += chunk {
		var all sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for range 4 {
			all.Go(func() {
				g := p.send("PATCH", at, body[off:off+chunk], fmt.Sprintf("Content-Range: %d-%d", off, off+chunk-1))
				mu.Lock()
				defer mu.Unlock()
				switch g.status {
				case 202:
					won++
				case 416, 409:
				default:
					t.Errorf("status %d: %s", g.status, g.body)
				}
			})
		}
		all.Wait()
		if won != 1 {
			t.Errorf("%d were taken at %d", won, off)
		}
	}
	p.wantPushed(p.send("PUT", at+"?digest="+d.String(), nil), "own/app", d, body)
}

// A bucket that took the blob and whose answer was lost is asked again.
func TestALostResponseOfTheBucketIsNoLoss(t *testing.T) {
	p := newPusher(t)
	body := pattern(100_000)
	d := manifest.DigestOf(body)
	at := p.begin("own/app")
	lost := true
	p.bucket.on("PUTBLOB", func(context.Context) error {
		if lost {
			lost = false
			p.bucket.data.Lock()
			p.bucket.blobs[d] = body
			p.bucket.data.Unlock()
			return io.ErrUnexpectedEOF
		}
		return nil
	})
	p.wantPushed(p.send("PUT", at+"?digest="+d.String(), body), "own/app", d, body)
}

// An error that comes before the body was read ends the connection, and does not wait
// for the body.
func TestAnErrorBeforeTheBodyClosesTheConnection(t *testing.T) {
	p := newPusher(t)
	c := p.dial()
	c.send(request("PATCH", "/v2/own/app/blobs/uploads/none", 1<<30))
	p.wantError(c.answer(), 404, "BLOB_UPLOAD_UNKNOWN")
	c.wantClosed()
}

// Keep-alive is kept where all of the body was read.
func TestPushesReuseTheirConnection(t *testing.T) {
	p := newPusher(t)
	c := p.dial()
	for i := range 20 {
		body := pattern(10_000 + i)
		d := manifest.DigestOf(body)
		c.send(request("POST", "/v2/own/app/blobs/uploads/?digest="+d.String(), len(body)) + string(body))
		p.wantPushed(c.answer(), "own/app", d, body)
	}
}
