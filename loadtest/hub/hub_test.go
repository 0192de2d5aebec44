package hub

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"hostlocal/manifest"
)

// fetched is what one exchange without any cleverness brought: what the wire says.
type fetched struct {
	status int
	header http.Header
	body   []byte
	err    error // of the exchange or of the body
}

// maxBody ends endless bodies.
const maxBody = 8 << 20

func fetch(t *testing.T, method, url string, kv ...string) fetched {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(kv); i += 2 {
		req.Header.Add(kv[i], kv[i+1])
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return fetched{err: err}
	}
	defer resp.Body.Close()
	f := fetched{status: resp.StatusCode, header: resp.Header}
	f.body, f.err = io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return f
}

func TestGeneratedBytesAreTheSameByAnyRange(t *testing.T) {
	c := Generated(7, 100_003)
	all := c.Bytes()
	if err := c.Digest.Verify(all); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{0, 1, 7, 8, 9, 4095, 100_000, 100_002} {
		for _, n := range []int64{0, 1, 2, 7, 8, 9, 100, 200_000} {
			if got := c.Slice(off, n); !bytes.Equal(got, all[off:min(off+n, c.Size)]) {
				t.Fatalf("bytes %d+%d differ from the whole's", off, n)
			}
		}
	}
	if wrong, n, err := c.FirstWrong(5, bytes.NewReader(all[5:])); wrong != -1 || n != c.Size-5 || err != nil {
		t.Fatalf("right bytes: FirstWrong = %d, %d, %v", wrong, n, err)
	}
	for _, shift := range []int64{8, 64, 4096, 65536} {
		if wrong, _, _ := c.FirstWrong(0, bytes.NewReader(all[shift:])); wrong != 0 {
			t.Fatalf("a shift by %d shows at %d", shift, wrong)
		}
	}
	all[70_001] ^= 1
	if wrong, _, _ := c.FirstWrong(0, bytes.NewReader(all)); wrong != 70_001 {
		t.Fatalf("a flipped bit at 70001 shows at %d", wrong)
	}
}

func TestImagesAreServedByTagAndDigest(t *testing.T) {
	h := start(t)
	img := h.AddIndex("library/app", "v1", []manifest.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"}}, h.Layers(1000, 0)...)
	for _, ref := range []string{"v1", img.Digest.String()} {
		f := fetch(t, "GET", h.URL+"/v2/library/app/manifests/"+ref)
		if f.status != 200 || !bytes.Equal(f.body, img.Body) || f.header.Get("Content-Type") != manifest.OCIIndex || f.header.Get("Docker-Content-Digest") != img.Digest.String() {
			t.Fatalf("GET %s: %d %v", ref, f.status, f.header)
		}
		f = fetch(t, "HEAD", h.URL+"/v2/library/app/manifests/"+ref)
		if f.status != 200 || len(f.body) != 0 || f.header.Get("Content-Length") == "" {
			t.Fatalf("HEAD %s: %d %v", ref, f.status, f.header)
		}
	}
	if len(img.Images) != 2 || len(img.Attests) != 2 || img.Images[0].Digest == img.Images[1].Digest {
		t.Fatalf("the index has %d images and %d attestations", len(img.Images), len(img.Attests))
	}
	for _, p := range append(img.Images, img.Attests...) {
		f := fetch(t, "GET", h.URL+"/v2/library/app/manifests/"+p.Digest.String())
		if !bytes.Equal(f.body, p.Body) {
			t.Fatalf("manifest %s: %d", p.Digest, f.status)
		}
		for _, l := range append(p.Layers, p.Config) {
			if f := fetch(t, "GET", h.URL+"/v2/library/app/blobs/"+l.Digest.String()); f.status != 200 || l.Digest.Verify(f.body) != nil {
				t.Fatalf("blob %s: %d, %d bytes, %v", l.Digest, f.status, len(f.body), f.err)
			}
		}
	}
	v2 := h.AddDocker("library/app", "v2", h.Layer(10))
	h.must(h.MoveTag("library/app", "v1", v2.Digest))
	if f := fetch(t, "GET", h.URL+"/v2/library/app/manifests/v1"); f.header.Get("Content-Type") != manifest.DockerManifest {
		t.Fatalf("moved tag: %v", f.header)
	}
	h.DeleteTag("library/app", "v1")
	if f := fetch(t, "GET", h.URL+"/v2/library/app/manifests/v1"); f.status != 404 {
		t.Fatalf("deleted tag: %d", f.status)
	}
	h.Forbid("library/app")
	if f := fetch(t, "GET", h.URL+"/v2/library/app/manifests/v2"); f.status != 403 {
		t.Fatalf("forbidden: %d", f.status)
	}
}

func TestRangesAndCounts(t *testing.T) {
	h := start(t)
	img := h.AddImage("app", "v1", h.Layer(300_000))
	l := img.Layers[0]
	url := h.URL + "/v2/app/blobs/" + l.Digest.String()
	for _, c := range []struct {
		spec   string
		off, n int64
	}{{"bytes=0-0", 0, 1}, {"bytes=299999-", 299_999, 1}, {"bytes=-5", 299_995, 5}, {"bytes=100-999999999", 100, 299_900}} {
		h.Forget()
		f := fetch(t, "GET", url, "Range", c.spec)
		h.idle()
		if f.status != 206 || !bytes.Equal(f.body, l.Slice(c.off, c.n)) || h.Sent(l.Digest) != c.n || h.Gets(l.Digest) != 1 {
			t.Errorf("%s: %d, %d bytes, %s; sent %d", c.spec, f.status, len(f.body), f.header.Get("Content-Range"), h.Sent(l.Digest))
		}
	}
	if f := fetch(t, "GET", url, "Range", "bytes=300000-"); f.status != 416 {
		t.Errorf("range behind the end: %d", f.status)
	}
	if q := h.Requests(Blob(l.Digest)); len(q) != 2 || q[1].Header.Get("Range") != "bytes=300000-" || q[1].Status != 416 {
		t.Errorf("requests since Forget: %+v", q)
	}
}

func TestFaultsShowOnTheWire(t *testing.T) {
	const size = 200_000
	h := start(t)
	img := h.AddImage("app", "v1", h.Layer(size))
	l := img.Layers[0]
	url := h.URL + "/v2/app/blobs/" + l.Digest.String()
	whole := func(f fetched) bool { return f.err == nil && l.Digest.Verify(f.body) == nil }
	for _, c := range []struct {
		name  string
		fault Fault
		want  func(fetched) bool
	}{
		{"cut", CutEvery(70_000), func(f fetched) bool {
			return errors.Is(f.err, io.ErrUnexpectedEOF) && bytes.Equal(f.body, l.Slice(0, 70_000)) && h.Sent(l.Digest) == 70_000
		}},
		{"cut chunked", func(p *plan) { CutEvery(70_000)(p); Chunked()(p) }, func(f fetched) bool { return f.err != nil && len(f.body) == 70_000 }},
		{"cut behind the end", CutEvery(size), whole},
		{"reset", ResetEvery(70_000), func(f fetched) bool { return f.err != nil && len(f.body) <= 70_000 }},
		{"drop", Drop(), func(f fetched) bool { return f.err != nil && f.status == 0 }},
		{"flip", Flip(5, 150_000), func(f fetched) bool {
			return f.err == nil && len(f.body) == size && f.body[5] == ^l.Slice(5, 1)[0] && f.body[150_000] == ^l.Slice(150_000, 1)[0]
		}},
		{"zero", Zero(100, 4), func(f fetched) bool { return bytes.Equal(f.body[100:104], make([]byte, 4)) && len(f.body) == size }},
		{"short", Short(1), func(f fetched) bool { return f.err == nil && len(f.body) == size-1 }},
		{"long", Long(10), func(f fetched) bool {
			return f.err == nil && len(f.body) == size+10 && bytes.Equal(f.body[:size], l.Bytes())
		}},
		{"endless", Endless(), func(f fetched) bool { return len(f.body) == maxBody }},
		{"page", ErrorPage(), func(f fetched) bool { return f.status == 200 && bytes.HasPrefix(f.body, []byte("<!DOCTYPE")) }},
		{"length too great", ContentLength(size + 1), func(f fetched) bool { return errors.Is(f.err, io.ErrUnexpectedEOF) && len(f.body) == size }},
		{"length too small", ContentLength(100), func(f fetched) bool { return f.err == nil && len(f.body) == 100 }},
		{"gzip", Gzip(), func(f fetched) bool {
			return f.err == nil && f.header.Get("Content-Encoding") == "gzip" && bytes.HasPrefix(f.body, []byte{0x1f, 0x8b})
		}},
		{"chunked", Chunked(), func(f fetched) bool { return whole(f) && f.header.Get("Content-Length") == "" }},
		{"503 twice", Times(2, Status(503)), func(f fetched) bool {
			return f.status == 503 && fetch(t, "GET", url).status == 503 && whole(fetch(t, "GET", url))
		}},
		{"429", TooMany(7), func(f fetched) bool { return f.status == 429 && f.header.Get("Retry-After") == "7" }},
		{"401", Status(401), func(f fetched) bool { return f.status == 401 }},
		{"no ranges", NoRanges(), func(f fetched) bool {
			f = fetch(t, "GET", url, "Range", "bytes=5-9")
			return f.status == 200 && whole(f)
		}},
		{"header", Header("RateLimit-Limit", "100;w=21600"), func(f fetched) bool { return whole(f) && f.header.Get("Ratelimit-Limit") == "100;w=21600" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.heal()
			h.Forget()
			in := h.Fault(Blob(l.Digest), c.fault)
			f := fetch(t, "GET", url)
			if !c.want(f) {
				t.Errorf("status %d, %d bytes, %v, %v", f.status, len(f.body), f.header, f.err)
			}
			if in.Hits() == 0 {
				t.Error("no request met the fault")
			}
			h.heal()
			if f := fetch(t, "GET", url); !whole(f) {
				t.Errorf("healed: status %d, %d bytes, %v", f.status, len(f.body), f.err)
			}
		})
	}
}

func TestStallsEndWithHealOrTheirGate(t *testing.T) {
	h := start(t)
	img := h.AddImage("app", "v1", h.Layer(100_000))
	l := img.Layers[0]
	url := h.URL + "/v2/app/blobs/" + l.Digest.String()
	gate := NewGate()
	for name, fault := range map[string]Fault{"before headers": Stall(), "mid-body": StallAfter(50_000), "gate": Hold(gate), "gate mid-body": HoldAfter(1, gate)} {
		t.Run(name, func(t *testing.T) {
			h.Forget()
			h.Fault(Blob(l.Digest), fault)
			done := make(chan fetched)
			go func() { done <- fetch(t, "GET", url) }()
			h.arrived(Blob(l.Digest), 1)
			select {
			case f := <-done:
				t.Fatalf("not stalled: %d, %d bytes", f.status, len(f.body))
			default:
			}
			h.heal()
			if f := <-done; f.status != 200 || l.Digest.Verify(f.body) != nil {
				t.Fatalf("status %d, %d bytes, %v", f.status, len(f.body), f.err)
			}
		})
	}
}

func TestDownRefusesAndComesBackOnItsPort(t *testing.T) {
	h := start(t)
	h.must(h.Down())
	if f := fetch(t, "GET", h.URL+"/v2/"); f.err == nil || !strings.Contains(f.err.Error(), "refused") {
		t.Fatalf("down: %d %v", f.status, f.err)
	}
	if l, err := net.Listen("tcp", h.Host); err == nil {
		l.Close()
		t.Fatal("another server got the port of a hub that is down")
	}
	h.heal()
	if f := fetch(t, "GET", h.URL+"/v2/"); f.status != 200 {
		t.Fatalf("up again: %d %v", f.status, f.err)
	}
}

func TestRateIsKeptPerConnectionAndInTotal(t *testing.T) {
	h := start(t)
	img := h.AddImage("app", "v1", h.Layer(2<<20))
	url := h.URL + "/v2/app/blobs/" + img.Layers[0].Digest.String()
	timed := func(clients int) time.Duration {
		start := time.Now()
		done := make(chan fetched)
		for range clients {
			go func() { done <- fetch(t, "GET", url) }()
		}
		for range clients {
			if f := <-done; f.err != nil || len(f.body) != 2<<20 {
				t.Errorf("%d bytes, %v", len(f.body), f.err)
			}
		}
		return time.Since(start)
	}
	within := func(what string, got, want time.Duration) {
		t.Helper()
		if got < want*9/10 || got > want*3+2*time.Second { // the upper bound is wide: other work shares the machine
			t.Errorf("%s took %v, not about %v", what, got, want)
		}
	}
	h.Fault(Blobs(), Rate(8<<20))
	within("three at 8 MiB/s each", timed(3), 250*time.Millisecond)
	h.heal()
	h.Limit(16 << 20)
	within("three at 16 MiB/s in all", timed(3), 375*time.Millisecond)
}

func TestCDNServesWhoeverHasTheLink(t *testing.T) {
	h := start(t)
	img := h.AddImage("app", "v1", h.Layer(1000))
	l := img.Layers[0]
	h.Fault(Blobs(), ToCDN())
	f := fetch(t, "GET", h.URL+"/v2/app/blobs/"+l.Digest.String())
	link := f.header.Get("Location")
	if f.status != 307 || !strings.Contains(link, h.CDNHost()) || h.CDNHost() == h.Host {
		t.Fatalf("redirect: %d %q", f.status, link)
	}
	f = fetch(t, "GET", link, "Range", "bytes=10-19", "Authorization", "Basic c2VjcmV0")
	if f.status != 206 || !bytes.Equal(f.body, l.Slice(10, 10)) {
		t.Fatalf("from the CDN: %d, %d bytes", f.status, len(f.body))
	}
	if q := h.Requests(CDN(l.Digest)); len(q) != 1 || q[0].Header.Get("Authorization") == "" {
		t.Fatalf("the CDN's log: %+v", q)
	}
	h.ExpireLinks()
	if f := fetch(t, "GET", link); f.status != 403 {
		t.Fatalf("expired link: %d", f.status)
	}
	if n := h.Sent(l.Digest); n != 10 {
		t.Fatalf("sent %d bytes of the blob, not 10", n)
	}
}

func TestTagsArePaged(t *testing.T) {
	h := start(t)
	for _, tag := range []string{"a", "c", "b"} {
		h.AddImage("app", tag)
	}
	f := fetch(t, "GET", h.URL+"/v2/app/tags/list?n=2")
	if !strings.Contains(f.header.Get("Link"), "last=b") || !bytes.Contains(f.body, []byte(`"b"`)) || bytes.Contains(f.body, []byte(`"c"`)) {
		t.Fatalf("first page: %s %v", f.body, f.header)
	}
	f = fetch(t, "GET", h.URL+"/v2/app/tags/list?n=2&last=b")
	if f.header.Get("Link") != "" || !bytes.Contains(f.body, []byte(`"c"`)) {
		t.Fatalf("last page: %s %v", f.body, f.header)
	}
}

func TestManifestsAreNegotiated(t *testing.T) {
	h := start(t)
	img := h.AddIndex("app", "v1", []manifest.Platform{{OS: "linux", Architecture: "amd64"}}, h.Layer(10))
	h.Fault(Manifests(), Negotiate())
	url := h.URL + "/v2/app/manifests/v1"
	if f := fetch(t, "GET", url, "Accept", "text/plain, "+manifest.OCIIndex+";q=0.5"); !bytes.Equal(f.body, img.Body) {
		t.Fatalf("index accepted: %s", f.body)
	}
	if f := fetch(t, "GET", url, "Accept", manifest.OCIManifest); !bytes.Equal(f.body, img.Images[0].Body) {
		t.Fatalf("only manifests accepted: %s", f.body)
	}
	if f := fetch(t, "GET", url, "Accept", manifest.DockerManifest); f.status != 404 {
		t.Fatalf("nothing that there is accepted: %d", f.status)
	}
}

func BenchmarkGenerate(b *testing.B) {
	p := make([]byte, 128<<10)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		generate(p, 1, 3)
	}
}
