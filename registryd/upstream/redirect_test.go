package upstream

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"hostlocal/registryd/upstream/hubtest"
)

func TestRedirectsAreFollowedWithoutCredentialsAndRemembered(t *testing.T) {
	x := newTester(t, func(c *Config) { c.Username, c.Password = "u", "p" })
	l := x.hub.AddImage("library/app", "v1", x.hub.Layer(1000)).Layers[0]
	x.hub.Require(hubtest.Auth{Username: "u", Password: "p"})
	x.hub.Fault(hubtest.Blobs(), hubtest.ToCDN())
	for off := int64(0); off < 1000; off += 100 {
		b, from, size, err := x.read(l.Digest, off, 100)
		if err != nil || from != off || size != 1000 || string(b) != string(l.Slice(off, 100)) {
			t.Fatalf("bytes from %d on: %d from %d of %d, %v", off, len(b), from, size, err)
		}
	}
	x.count(2, hubtest.GetBlob) // the one that was challenged and the one that was redirected
	x.count(10, hubtest.FromCDN)
	for _, q := range x.hub.Requests(hubtest.Of(hubtest.FromCDN)) {
		if q.Header.Get("Authorization") != "" || q.Header.Get("Referer") != "" {
			t.Errorf("the CDN was told %v", q.Header)
		}
	}
	x.hub.ExpireLinks()
	x.hub.Forget()
	x.wantBlob(l)
	x.count(1, hubtest.GetBlob)
	x.count(2, hubtest.FromCDN)
}

func TestBrokenCDNIsAnOutage(t *testing.T) {
	x := newTester(t, nil)
	l := x.hub.AddImage("library/app", "v1", x.hub.Layer(1000)).Layers[0]
	x.hub.Fault(hubtest.Blobs(), hubtest.ToCDN())
	x.wantBlob(l)
	x.hub.Fault(hubtest.Of(hubtest.FromCDN), hubtest.Status(503))
	_, _, _, err := x.read(l.Digest, 0, -1)
	x.wantOutage(err)
	x.hub.Heal()
	x.wantBlob(l) // from the upstream itself
}

func TestManifestsMayBeRedirectedToo(t *testing.T) {
	x := newTester(t, nil)
	mirror := hubtest.New(t)
	img := mirror.AddImage("library/app", "v1", x.hub.Layer(10))
	x.hub.Fault(hubtest.All(), hubtest.RedirectTo(mirror.URL+"/v2/library/app/manifests/v1"))
	x.wantTag(img)
}

func TestRedirectsThatMustNotBeFollowed(t *testing.T) {
	victim := hubtest.New(t)
	l := victim.AddImage("library/app", "v1", victim.Layer(1000)).Layers[0]
	path := "/v2/library/app/blobs/" + l.Digest.String()

	// The upstream is public: it is reached by a proxy, so that its own address is
	// none of this host.
	public := func(t *testing.T) *tester {
		x := newTester(t, func(c *Config) { c.URL = "http://registry.example" })
		proxy, _ := url.Parse(x.hub.URL)
		x.c.guard.pick = func(r *http.Request) (*url.URL, error) {
			if r.URL.Hostname() == "registry.example" {
				return proxy, nil
			}
			return nil, nil
		}
		return x
	}
	for name, to := range map[string]string{
		"loopback":           victim.URL + path,
		"a name of loopback": "http://localhost:" + port(victim.Host) + path,
		"mapped":             "http://[::ffff:127.0.0.1]:" + port(victim.Host) + path,
		"link-local":         "http://169.254.169.254/latest/meta-data/",
		"private":            "http://10.0.0.1/",
		"unspecified":        "http://0.0.0.0:" + port(victim.Host) + path,
	} {
		t.Run(name, func(t *testing.T) {
			x := public(t)
			x.hub.Fault(hubtest.All(), hubtest.RedirectTo(to))
			_, _, _, err := x.read(l.Digest, 0, -1)
			x.wantOutage(err)
			x.count(1, hubtest.GetBlob)
		})
	}
	t.Run("by way of a realm", func(t *testing.T) {
		x := newTester(t, func(c *Config) { c.URL = "http://registry.localhost" })
		proxy, _ := url.Parse(x.hub.URL)
		x.c.guard.pick = func(r *http.Request) (*url.URL, error) {
			if r.URL.Hostname() == "registry.localhost" {
				return proxy, nil
			}
			return nil, nil
		}
		x.hub.AddImage("library/app", "v1")
		x.hub.Require(hubtest.Auth{Realm: "http://127.0.0.1.registry.localhost:" + port(victim.Host) + "/token"})
		x.wantOutage(head(x, "library/app"))
	})
	if n := len(victim.Requests(nil)); n != 0 {
		t.Errorf("what lies inside was asked %d times", n)
	}

	for name, to := range map[string]string{"not a web page": "file:///etc/passwd", "credentials": "http://u:p@127.0.0.1/", "nowhere": "http:///x"} {
		t.Run(name, func(t *testing.T) {
			x := newTester(t, nil)
			x.hub.Fault(hubtest.Blobs(), hubtest.RedirectTo(to))
			_, _, _, err := x.read(l.Digest, 0, -1)
			x.wantOutage(err)
			x.count(1, hubtest.GetBlob)
		})
	}
	t.Run("in circles", func(t *testing.T) {
		x := newTester(t, nil)
		x.hub.Fault(hubtest.Blobs(), hubtest.RedirectTo(x.hub.URL+path))
		_, _, _, err := x.read(l.Digest, 0, -1)
		x.wantOutage(err)
		x.count(maxHops+1, hubtest.GetBlob)
	})
	t.Run("from https to http", func(t *testing.T) {
		hub := hubtest.New(t, hubtest.TLS())
		x := testerOf(t, hub, func(c *Config) { c.CAFile = hub.CAFile() })
		hub.Fault(hubtest.Blobs(), hubtest.RedirectTo(victim.URL+path))
		_, _, _, err := x.read(l.Digest, 0, -1)
		x.wantOutage(err)
		if n := len(victim.Requests(nil)); n != 0 {
			t.Error("the redirect was followed")
		}
	})
}

func TestProxyIsUsed(t *testing.T) {
	x := newTester(t, func(c *Config) { c.URL = "http://registry.example" })
	img := x.hub.AddImage("library/app", "v1", x.hub.Layer(1000))
	proxy, _ := url.Parse(x.hub.URL)
	x.c.guard.pick = http.ProxyURL(proxy)
	x.wantTag(img)
	if q := x.hub.Requests(nil); q[0].Host != "registry.example" {
		t.Errorf("asked for host %s", q[0].Host)
	}
	x.hub.Fault(hubtest.Blobs(), hubtest.Times(1, hubtest.RedirectTo("http://cdn.example/v2/library/app/blobs/"+img.Layers[0].Digest.String())))
	x.wantBlob(img.Layers[0])
	if q := x.hub.Requests(hubtest.Blobs()); len(q) != 2 || q[1].Host != "cdn.example" {
		t.Errorf("%d requests for the blob", len(q))
	}
}

func TestInsideAddresses(t *testing.T) {
	for s, want := range map[string]bool{
		"127.0.0.1": true, "10.1.2.3": true, "172.31.0.1": true, "192.168.1.1": true, "169.254.169.254": true, "0.0.0.0": true,
		"100.100.100.200": true, "::1": true, "fe80::1%eth0": true, "fd00:ec2::254": true, "::ffff:127.0.0.1": true, "64:ff9b::7f00:1": true,
		"2002:7f00:1::": true, "224.0.0.1": true, "255.255.255.255": true, "::": true, "198.18.0.1": true,
		"8.8.8.8": false, "2606:4700::1111": false, "172.32.0.1": false, "64:ff9b::808:808": false, "::ffff:8.8.8.8": false,
	} {
		if got := inside(netip.MustParseAddr(s)); got != want {
			t.Errorf("inside(%s) = %v", s, got)
		}
	}
}

func TestSameSite(t *testing.T) {
	for pair, want := range map[string]bool{
		"auth.docker.io registry-1.docker.io": true, "ghcr.io ghcr.io": true, "gitlab.com registry.gitlab.com": true,
		"GHCR.io ghcr.io": true, "127.0.0.1 127.0.0.1": true, "localhost localhost": true,
		"docker.io.evil.test registry-1.docker.io": false, "evil.io docker.io": false, "127.0.0.1 10.0.0.1": false, "10.9.0.1 10.8.0.1": false,
		"io docker.io": false, "a.co.uk b.co.uk": false, "localhost 127.0.0.1": false, "evil.github.io good.github.io": false,
	} {
		a, b, _ := strings.Cut(pair, " ")
		if got := sameSite(a, b); got != want {
			t.Errorf("sameSite(%s, %s) = %v", a, b, got)
		}
	}
}

func TestALinkThatDisappointsIsForgotten(t *testing.T) {
	for name, fault := range map[string]hubtest.Fault{"page": hubtest.ErrorPage(), "cut": hubtest.CutEvery(100), "stall": hubtest.StallAfter(100)} {
		t.Run(name, func(t *testing.T) {
			x := newTester(t, impatient)
			l := x.hub.AddImage("library/app", "v1", x.hub.Layer(1000)).Layers[0]
			x.hub.Fault(hubtest.Blobs(), hubtest.ToCDN())
			x.wantBlob(l)
			bad := x.hub.Fault(hubtest.Of(hubtest.FromCDN), fault)
			_, _, _, err := x.read(l.Digest, 0, -1)
			x.wantOutage(err)
			bad.Remove()
			x.hub.Forget()
			x.wantBlob(l)
			x.count(1, hubtest.GetBlob)
		})
	}
}
