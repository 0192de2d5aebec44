package registryd

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// A page's server can have the page's own name lead to 127.0.0.1, and its images
// and scripts too; the name is in Host then.
func TestWebPagesAreNotAnswered(t *testing.T) {
	p := newPages([]string{"registry.corp.com:5000"})
	ask := func(local, host string, kv ...string) bool {
		r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
		r.Host = host
		for i := 0; i < len(kv); i += 2 {
			r.Header.Set(kv[i], kv[i+1])
		}
		addr := &net.TCPAddr{IP: net.ParseIP(local), Port: 5000}
		return !p.sent(r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, addr)))
	}
	for _, host := range []string{
		"127.0.0.1:5000", "[::1]:5000", "10.1.2.3", "localhost:5000", "registryd:5000", "app", "registry.corp.com:5000", "Registry.Corp.Com",
		"registryd.kube-system.svc.cluster.local:5000", "host.docker.internal:5000", "mirror.corp:5000", "registry.test", "",
	} {
		if !ask("127.0.0.1", host) {
			t.Errorf("a client that calls this host %q was taken for a page", host)
		}
	}
	for _, host := range []string{"evil.com:5000", "EVIL.com", "evil.com.", "a.b.evil.co.uk:5000", "somebody.github.io:5000", "127.0.0.1.nip.io:5000"} {
		if ask("127.0.0.1", host) || ask("::1", host) {
			t.Errorf("a page of %q was answered on loopback", host)
		}
		if !ask("10.1.2.3", host) {
			t.Errorf("a client on the network that calls this host %q was refused", host)
		}
	}
	for _, kv := range [][2]string{{"Origin", "http://localhost:5000"}, {"Origin", "null"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}} {
		if ask("127.0.0.1", "127.0.0.1:5000", kv[0], kv[1]) {
			t.Errorf("a request with %s: %s was answered", kv[0], kv[1])
		}
	}
	if !ask("127.0.0.1", "127.0.0.1:5000", "Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate") {
		t.Error("a person who typed the address was refused")
	}
}

func BenchmarkPages(b *testing.B) {
	p := newPages(nil)
	r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	r.Host = "127.0.0.1:5000"
	b.ReportAllocs()
	for b.Loop() {
		if p.sent(r) {
			b.Fatal("a client was taken for a page")
		}
	}
}
