package registryd

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"hostlocal/manifest"
)

// A manifest counts only as it was announced, whole; what does not end is not read on.
func TestAManifestThatLiesAboutItsLengthIsNotTaken(t *testing.T) {
	p := newPusher(t)
	im := p.pushedImage("v1")
	for name, c := range map[string]struct {
		length int
		body   string
		cut    bool
		status int
	}{
		"more than comes":     {len(im.body) + 10, string(im.body), true, 0},
		"less than comes":     {len(im.body) - 10, string(im.body), false, 400},
		"none":                {0, string(im.body), false, 400},
		"more than there may": {manifest.MaxSize + 1, string(im.body), false, 413},
		"chunks that break":   {-1, fmt.Sprintf("%x\r\n%s\r\nzz\r\n", len(im.body), im.body), false, 400},
	} {
		t.Run(name, func(t *testing.T) {
			conn := p.dial()
			defer conn.rude()
			conn.send(request("PUT", "/v2/own/app/manifests/lie", c.length, "Content-Type: "+manifest.OCIManifest) + c.body)
			if c.cut {
				time.Sleep(50 * time.Millisecond)
				conn.rude()
				time.Sleep(50 * time.Millisecond)
			} else if g := conn.answer(); g.status != c.status {
				t.Errorf("status %d: %s", g.status, g.body)
			}
			if g := p.get("/v2/own/app/manifests/lie"); g.status != 404 {
				t.Errorf("the tag is answered %d", g.status)
			}
		})
	}
	p.want(p.send("PUT", "/v2/own/app/manifests/true", im.body, "Content-Type: "+manifest.OCIManifest), 201)
}

func TestAManifestWithoutEndIsRefused(t *testing.T) {
	p := newPusher(t)
	zeros := &counted{}
	req, err := http.NewRequest("PUT", p.base+"/v2/own/app/manifests/v1", streamed{io.LimitReader(zeros, 1<<30)})
	if err != nil {
		t.Fatal(err)
	}
	if res, err := p.client.Do(req); err == nil { // or it was cut off while it sent
		res.Body.Close()
		if res.StatusCode != 413 {
			t.Errorf("status %d", res.StatusCode)
		}
	}
	if n := zeros.n.Load(); n > 8*manifest.MaxSize {
		t.Errorf("%d bytes were taken", n)
	}
}

// Headers beyond the bound are refused before anything is done, and nothing is left.
func TestHeadersWithoutEndBeginNoUpload(t *testing.T) {
	p := newPusher(t)
	at := p.begin("own/app")
	flood := strings.Repeat("X-Flood: "+strings.Repeat("x", 1000)+"\r\n", maxHeader/1000+20)
	for _, c := range []string{"POST /v2/own/app/blobs/uploads/", "PATCH " + at, "PUT " + at + "?digest=" + someDigest.String()} {
		conn := p.dial()
		conn.send(c + " HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n" + flood + "\r\n")
		if g := conn.answer(); g.status != 431 {
			t.Errorf("%s: %d %s", c, g.status, g.body)
		}
		conn.rude()
	}
	if left := p.spooled(); len(left) != 1 {
		t.Errorf("%d uploads", len(left))
	}
	p.wantStands(at, 0)
}
