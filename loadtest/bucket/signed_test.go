package bucket

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"hostlocal/loadtest/line"
)

// TestWhatIsSignedArrivesAsItWas sends what a signature may cover, byte by byte.
func TestWhatIsSignedArrivesAsItWas(t *testing.T) {
	type seen struct {
		uri, host, body string
		header          http.Header
		length          int64
	}
	got := make(chan seen, 1)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- seen{r.RequestURI, r.Host, string(body), r.Header, r.ContentLength}
		w.Header().Set("X-Amz-Request-Id", "7")
		w.WriteHeader(http.StatusNoContent)
	}))
	defer backend.Close()
	p := before(t, backend.URL, Options{})
	c, err := net.Dial("tcp", p.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const uri = "/images/a%20b+c/%E2%82%AC//x;y?partNumber=1&uploadId=a%2Fb&x-id=c;d"
	fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: bucket.example:9\r\nAuthorization: AWS4-HMAC-SHA256 x\r\nX-Amz-Date: now\r\n"+
		"X-Amz-Content-Sha256: e3b0\r\nContent-Length: 5\r\nX-Forwarded-For: 1.2.3.4\r\n\r\nhello", uri)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	s := <-got
	if s.uri != uri || s.host != "bucket.example:9" || s.body != "hello" || s.length != 5 {
		t.Errorf("arrived: %q at %q, %q of %d bytes", s.uri, s.host, s.body, s.length)
	}
	// X-Forwarded-For is the one thing that a proxy of Go's takes away, and nobody signs it.
	if keys := slices.Sorted(maps.Keys(s.header)); !slices.Equal(keys, []string{"Authorization", "Content-Length", "X-Amz-Content-Sha256", "X-Amz-Date"}) {
		t.Errorf("headers arrived: %q", keys)
	}
	if resp.StatusCode != http.StatusNoContent || resp.Header.Get("X-Amz-Request-Id") != "7" || p.Counts().Requests["upload_part"] != 1 {
		t.Errorf("the answer: %d %v; counted %v", resp.StatusCode, resp.Header, p.Counts().Requests)
	}
}

func TestACutBreaksAnswersWithoutLength(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat("x", 5000))
		w.(http.Flusher).Flush()
	}))
	defer backend.Close()
	p := before(t, backend.URL, Options{})
	stop, err := p.Play([]line.Fault{{Kind: line.Cut, Value: 1000}})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	resp, err := http.Get(p.URL + "/images?list-type=2")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); len(b) != 1000 || err == nil {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestWrongBackendsAreRefused(t *testing.T) {
	for _, backend := range []string{"", "127.0.0.1:9000", "s3://images", "http://", "http://127.0.0.1:9000/images", "http://[::1"} {
		if p, err := Start(backend, Options{}); err == nil {
			p.Close()
			t.Errorf("%q was taken", backend)
		}
	}
}

// TestASilentStoreIsABrokenConnection: nothing of the proxy's own is in the answers.
func TestASilentStoreIsABrokenConnection(t *testing.T) {
	backend := httptest.NewServer(nil)
	p := before(t, backend.URL, Options{}) // which is not given the port of a server that is gone
	backend.Close()
	if resp, err := http.Get(p.URL + "/images/x"); err == nil {
		resp.Body.Close()
		t.Errorf("answered %d", resp.StatusCode)
	}
}
