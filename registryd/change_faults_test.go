package registryd

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"hostlocal/manifest"
)

// pushedImage is an image in own/app, of which the bucket has all.
func (p *pusher) pushedImage(tag string) image {
	p.Helper()
	im := newImage(p.TB.(*testing.T), "one")
	for _, b := range [][]byte{im.config, im.layer} {
		p.want(p.send("PUT", p.begin("own/app")+"?digest="+manifest.DigestOf(b).String(), b), 201)
	}
	p.want(p.send("PUT", "/v2/own/app/manifests/"+tag, im.body, "Content-Type: "+manifest.OCIManifest), 201)
	return im
}

// Whoever closes only its own end listens still, and must not hear of a success that
// there was not.
func TestWhoHangsUpHalfIsNotToldThatAManifestIsChanged(t *testing.T) {
	p := newPusher(t)
	im := p.pushedImage("v1")
	for _, c := range []struct{ op, method, at, body string }{
		{"PUTMANIFEST", "PUT", "/v2/own/app/manifests/v2", string(im.body)},
		{"PUTTAG", "PUT", "/v2/own/app/manifests/v2", string(im.body)},
		{"REMOVETAG", "DELETE", "/v2/own/app/manifests/v1", ""},
		{"REMOVEMANIFEST", "DELETE", "/v2/own/app/manifests/" + im.d.String(), ""},
		{"REMOVELAYER", "DELETE", "/v2/own/app/blobs/" + im.layerDigest().String(), ""},
		{"TAG", "GET", "/v2/own/app/manifests/v3", ""},
	} {
		t.Run(c.op, func(t *testing.T) {
			asked := make(chan struct{}, 10)
			p.bucket.on(c.op, func(ctx context.Context) error {
				asked <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			})
			defer p.bucket.heal()
			conn := p.dial()
			conn.send(request(c.method, c.at, len(c.body)) + c.body)
			<-asked
			conn.Conn.(*net.TCPConn).CloseWrite()
			conn.wantClosed()
		})
	}
}

// A body that was announced, and that nobody needs, is not waited for.
func TestABodyThatDoesNotComeHoldsUpNoAnswer(t *testing.T) {
	p := newPusher(t)
	im := p.pushedImage("v1")
	layer := im.layerDigest().String()
	for _, c := range []struct {
		method, at string
		status     int
	}{
		{"POST", "/v2/own/copy/blobs/uploads/?from=own/app&mount=" + layer, 201},
		{"DELETE", p.begin("own/app"), 204},
		{"DELETE", "/v2/own/app/manifests/v1", 202},
		{"DELETE", "/v2/own/app/manifests/" + im.d.String(), 202},
		{"DELETE", "/v2/own/app/blobs/" + layer, 202},
	} {
		t.Run(fmt.Sprint(c.method, c.status), func(t *testing.T) {
			conn := p.dial()
			conn.send(request(c.method, c.at, 10))
			conn.SetReadDeadline(time.Now().Add(bodyLimit + 3*time.Second))
			res, err := http.ReadResponse(conn.r, nil)
			if err != nil || res.StatusCode != c.status || !res.Close {
				t.Fatalf("%v, %v", res, err)
			}
		})
	}
}
