package hub

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"hostlocal/loadtest/line"
	"hostlocal/manifest"
)

func TestPullsAreLimitedAsOnDockerHub(t *testing.T) {
	h := start(t, Shaped(Shape{Pulls: 2}))
	img := h.AddImage("app", "v1", h.Layer(10))
	url := h.URL + "/v2/app/manifests/v1"
	for i, c := range []struct {
		method string
		status int
		left   string
	}{{"HEAD", 200, "2"}, {"GET", 200, "1"}, {"HEAD", 200, "1"}, {"GET", 200, "0"}, {"HEAD", 200, "0"}, {"GET", 429, "0"}, {"GET", 429, "0"}} {
		f := fetch(t, c.method, url)
		if f.status != c.status || f.header.Get("Ratelimit-Remaining") != c.left+";w=21600" || f.header.Get("Ratelimit-Limit") != "2;w=21600" {
			t.Errorf("request %d, %s: %d, %v", i, c.method, f.status, f.header)
		}
		if refused := c.status == 429; refused != strings.Contains(string(f.body), `"TOOMANYREQUESTS"`) {
			t.Errorf("request %d says %s", i, f.body)
		}
	}
	if f := fetch(t, "GET", h.URL+"/v2/app/blobs/"+img.Layers[0].Digest.String()); f.status != 200 || f.header.Get("Ratelimit-Limit") != "" {
		t.Errorf("a blob is limited: %d, %v", f.status, f.header)
	}
	h.idle()
	if c := h.Counts(); c.Refused != 2 || c.Requests[GetManifest] != 4 || c.Requests[HeadManifest] != 3 {
		t.Errorf("counted %+v", c)
	}
	h.SetShape(Shape{})
	if f := fetch(t, "GET", url); f.status != 200 || f.header.Get("Ratelimit-Limit") != "" {
		t.Errorf("without a limit: %d, %v", f.status, f.header)
	}
}

func TestShapeAsksForTokensAndSendsToTheCDN(t *testing.T) {
	h := start(t, Shaped(Shape{Token: true, CDN: true}))
	img := h.AddImage("app", "v1", h.Layer(5000))
	blob := h.URL + "/v2/app/blobs/" + img.Layers[0].Digest.String()
	if f := fetch(t, "GET", blob); f.status != 401 || f.header.Get("Www-Authenticate") == "" {
		t.Fatalf("without a token: %d %v", f.status, f.header)
	}
	auth := token(t, h.URL+"/token?service=hub&scope=repository:app:pull")
	f := fetch(t, "GET", blob, "Authorization", auth)
	if f.status != 307 {
		t.Fatalf("with a token: %d", f.status)
	}
	if f := fetch(t, "GET", f.header.Get("Location")); f.status != 200 || img.Layers[0].Digest.Verify(f.body) != nil {
		t.Fatalf("at the CDN: %d, %d bytes", f.status, len(f.body))
	}
	h.idle()
	c := h.Counts()
	if c.Requests[GetBlob] != 2 || c.Requests[FromCDN] != 1 || c.Requests[Token] != 1 || c.Fetched[img.Layers[0].Digest] != 5000 ||
		c.Sent != 5000 || c.Wire < 5000 || c.Connections != 4 {
		t.Errorf("counted %+v", c)
	}
	h.SetShape(Shape{})
	if f := fetch(t, "GET", blob); f.status != 200 {
		t.Errorf("without a shape: %d", f.status)
	}
}

// TestScheduledFaultsMeetBodiesUnderWay takes 0.2 s: a body of 2 MiB at 256 KiB/s is
// stopped by a stall and goes on after it, faster, and one is broken by an outage.
func TestScheduledFaultsMeetBodiesUnderWay(t *testing.T) {
	h := start(t, Shaped(Shape{CDN: true}))
	l := h.Layer(2 << 20)
	h.AddBlob("app", l)
	link := fetch(t, "GET", h.URL+"/v2/app/blobs/"+l.Digest.String()).header.Get("Location")
	done := make(chan fetched)
	begin := func() {
		t.Helper()
		h.Forget()
		h.SetShape(Shape{ConnectionRate: 256 << 10, CDN: true})
		go func() { done <- fetch(t, "GET", link) }()
		for h.Sent(l.Digest) == 0 {
			time.Sleep(time.Millisecond) // of a body that lasts 8 s
		}
	}
	play := func(kind string) (stop func()) {
		t.Helper()
		end, err := h.Play([]line.Fault{{Kind: kind}})
		h.must(err)
		return func() { t.Helper(); h.must(end()) }
	}
	begin()
	stop := play(line.Stall)
	was := h.Sent(l.Digest)
	select {
	case f := <-done:
		t.Fatalf("a body passed a stall: %d bytes, %v", len(f.body), f.err)
	case <-time.After(50 * time.Millisecond):
	}
	// What had passed the gate before it closed is a chunk of 5 ms and one wait.
	if n := h.Sent(l.Digest) - was; n > 64<<10 {
		t.Errorf("%d bytes were sent in a stall", n)
	}
	h.SetShape(Shape{CDN: true})
	stop()
	if f := <-done; f.err != nil || l.Digest.Verify(f.body) != nil {
		t.Errorf("after the stall: %d bytes, %v", len(f.body), f.err)
	}
	begin()
	stop = play(line.Down)
	if f := <-done; f.err == nil {
		t.Error("a body outlived an outage")
	}
	for _, host := range []string{h.Host, h.CDNHost(), h.TokenHost()} {
		if c, err := net.Dial("tcp", host); err == nil {
			c.Close()
			t.Errorf("%s takes connections in an outage", host)
		}
	}
	h.SetShape(Shape{CDN: true})
	stop()
	if f := fetch(t, "GET", link); f.err != nil || l.Digest.Verify(f.body) != nil {
		t.Errorf("after the outage: %d bytes, %v", len(f.body), f.err)
	}
	stopStatus, err := h.Play([]line.Fault{{Kind: line.Status, Value: http.StatusServiceUnavailable}})
	h.must(err)
	if f := fetch(t, "GET", link); f.status != 503 {
		t.Errorf("status: %d", f.status)
	}
	h.must(stopStatus())
}

func TestManyBodiesShareLittleMemory(t *testing.T) {
	var give []func()
	sum := 0
	for range 2 * maxLarge {
		b, g := borrow()
		sum += len(b)
		give = append(give, g)
	}
	if want := maxLarge * (largeBuffer + smallBuffer); sum != want {
		t.Errorf("%d bytes were lent, not %d", sum, want)
	}
	for _, g := range give {
		g()
	}
	if b, g := borrow(); len(b) != largeBuffer {
		t.Errorf("a buffer of %d bytes, although none is lent", len(b))
	} else {
		g()
	}
}

func TestExpiredTokensAreForgotten(t *testing.T) {
	a := &authState{Auth: Auth{Expires: time.Nanosecond}, tokens: map[string]grant{}}
	for i := range 5000 {
		a.grant(string(rune(i)), nil)
	}
	if n := len(a.tokens); n > 1000 {
		t.Errorf("%d tokens that have expired are kept", n)
	}
}

func TestAddressIsAsAsked(t *testing.T) {
	var h *Hub
	var host string
	for try := 1; ; try++ {
		first := start(t)
		host = first.Host
		second, err := Start(Listen(host))
		if err == nil {
			second.Close()
			t.Fatal("two hubs on one port")
		}
		if !strings.Contains(err.Error(), host) {
			t.Errorf("the message does not name %s: %v", host, err)
		}
		first.must(first.Close())
		if h, err = Start(Listen(host)); err == nil {
			break
		}
		if try == 5 || !errors.Is(err, syscall.EADDRINUSE) { // by somebody else meanwhile
			t.Fatal(err)
		}
	}
	defer h.Close()
	if h.Host != host {
		t.Errorf("the hub is at %s, not %s", h.Host, host)
	}
	h.AddManifest("app", "v1", manifest.OCIManifest, []byte("{}"))
	if f := fetch(t, "GET", h.URL+"/v2/app/manifests/v1"); f.status != 200 || len(h.Requests(nil)) != 0 {
		t.Errorf("%d; %d requests are remembered unasked", f.status, len(h.Requests(nil)))
	}
}
