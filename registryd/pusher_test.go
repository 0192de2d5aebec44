package registryd

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hostlocal/blobcache"
	"hostlocal/manifest"
)

// A pusher is a host to which images are pushed, over sockets: a registry with a cache
// and a bucket, and its server.
type pusher struct {
	*tester
	dir     string
	opt     Options
	cached  blobcache.Options
	stall   time.Duration
	serving []func(*Server) // what is changed of the server
	bucket  *memStore
	cache   *blobcache.Cache
	g       *Registry
}

func newPusher(t testing.TB, opts ...func(*pusher)) *pusher {
	t.Helper()
	p := &pusher{dir: t.TempDir(), bucket: newMemStore(), cached: blobcache.Options{Budget: 64 << 20, ScrubRate: -1}}
	p.opt = Options{
		Names: &manifest.Names{Upstreams: []manifest.Upstream{{Name: "docker.io"}}, Own: []string{"own/*"}, Default: "docker.io"},
		Store: p.bucket, PendingFile: filepath.Join(p.dir, "pending"),
	}
	for _, o := range opts {
		o(p)
	}
	p.start(t)
	t.Cleanup(func() { p.stop(t) })
	return p
}

func (p *pusher) start(t testing.TB) {
	t.Helper()
	var err error
	if p.cache, err = blobcache.New(p.dir, p.cached); err != nil {
		t.Fatal(err)
	}
	p.opt.Cache, p.opt.Links = p.cache, p.cache.Names()
	if p.g, err = New(p.opt); err != nil {
		t.Fatal(err)
	}
	p.g.Resume()
	p.tester = serve(t, NewHandler(p.g, HandlerOptions{Push: PushLoopback, Stall: p.stall}), p.serving...)
}

func (p *pusher) stop(t testing.TB) {
	t.Helper()
	p.shutdown()
	if err := p.g.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := p.cache.Close(); err != nil {
		t.Error(err)
	}
}

// restart is a new process on the same folder.
func (p *pusher) restart() {
	p.Helper()
	t := p.TB
	p.stop(t)
	p.start(t)
}

// streamed is a body whose length nobody says.
type streamed struct{ io.Reader }

// send is do with a body: nil, or a []byte, or a reader.
func (p *pusher) send(method, path string, body any, headers ...string) got {
	p.Helper()
	var r io.Reader
	switch b := body.(type) {
	case []byte:
		r = bytes.NewReader(b)
	case io.Reader:
		r = b
	}
	req, err := http.NewRequest(method, p.base+path, r)
	if err != nil {
		p.Fatal(err)
	}
	for _, kv := range headers {
		k, v, _ := strings.Cut(kv, ": ")
		req.Header.Add(k, v)
	}
	res, err := p.client.Do(req)
	if err != nil {
		p.Error(err)
		return got{header: http.Header{}, err: err}
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	return got{res.StatusCode, res.Header, answer, err}
}

// begin is a POST that begins an upload; it returns where to.
func (p *pusher) begin(repo string) string {
	p.Helper()
	g := p.send("POST", "/v2/"+repo+"/blobs/uploads/", nil)
	p.want(g, 202, "Range: 0-0")
	if g.header.Get("Docker-Upload-UUID") == "" {
		p.Error("no Docker-Upload-UUID")
	}
	return g.header.Get("Location")
}

// wantPushed demands that a push was acknowledged, and that it can be pulled from here
// and from the bucket.
func (p *pusher) wantPushed(g got, repo string, d manifest.Digest, body []byte) {
	p.Helper()
	p.want(g, 201, "Location: /v2/"+repo+"/blobs/"+d.String(), "Docker-Content-Digest: "+d.String())
	p.wantStored(repo, d, body)
	// A disk that takes longer than publishPatience does not hold up the answer.
	p.waitFor("it is on this disk", func() bool { return p.cache.Has(d) })
	opened := p.bucket.count("OPEN")
	back := p.get("/v2/" + repo + "/blobs/" + d.String())
	p.want(back, 200, "X-Registryd-Source: disk")
	if !bytes.Equal(back.body, body) {
		p.Errorf("%d other bytes came back", len(back.body))
	}
	if p.bucket.count("OPEN") != opened {
		p.Error("it was fetched from the bucket")
	}
}

func (p *pusher) wantStored(repo string, d manifest.Digest, body []byte) {
	p.Helper()
	p.bucket.data.Lock()
	defer p.bucket.data.Unlock()
	if got, ok := p.bucket.blobs[d]; !ok || !bytes.Equal(got, body) {
		p.Error("the bucket does not have it")
	}
	if !p.bucket.layers[content{repo, d}] {
		p.Error("the bucket does not link it")
	}
}

// wantNothing demands that neither the bucket nor this host kept anything of d.
func (p *pusher) wantNothing(d manifest.Digest) {
	p.Helper()
	if _, err := p.bucket.blob(d); err == nil {
		p.Error("the bucket has it")
	}
	if p.cache.Has(d) {
		p.Error("this host has it")
	}
	for _, name := range p.spooled() {
		p.Errorf("upload %s is left", name)
	}
}

// spooled are the uploads on this disk.
func (p *pusher) spooled() (names []string) {
	entries, _ := os.ReadDir(filepath.Join(p.dir, "uploads"))
	for _, e := range entries {
		if e.Name() != "boot" {
			names = append(names, e.Name())
		}
	}
	return names
}

// wantStands demands how many bytes have come of an upload.
func (p *pusher) wantStands(at string, size int) {
	p.Helper()
	p.want(p.get(at), 204, fmt.Sprintf("Range: 0-%d", max(size-1, 0)), "Location: "+at)
}

func sha512Of(b []byte) manifest.Digest {
	sum := sha512.Sum512(b)
	return manifest.MustDigest("sha512:" + hex.EncodeToString(sum[:]))
}

// waitFor waits for what happens behind an answer.
func (p *pusher) waitFor(what string, ok func() bool) {
	p.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.Fatal("not in time: " + what)
		}
	}
}
