package registryd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"hostlocal/blobcache"
	"hostlocal/manifest"
)

func TestEveryErrorHasItsStatus(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	for _, c := range []struct {
		err    error
		status int
		code   string
		retry  string
	}{
		{fs.ErrNotExist, 404, "MANIFEST_UNKNOWN", ""},
		{fs.ErrPermission, 403, "DENIED", ""},
		{manifest.ErrRegistry, 404, "NAME_UNKNOWN", ""},
		{manifest.ErrName, 400, "NAME_INVALID", ""},
		{manifest.ErrDigest, 400, "DIGEST_INVALID", ""},
		{context.DeadlineExceeded, 504, "UNAVAILABLE", ""},
		{manifest.ErrMismatch, 502, "UNAVAILABLE", ""},
		{blobcache.ErrSuspect, 503, "UNAVAILABLE", ""},
		{io.ErrUnexpectedEOF, 502, "UNAVAILABLE", ""},
		{&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}, 502, "UNAVAILABLE", ""},
		{&net.DNSError{IsTimeout: true}, 504, "UNAVAILABLE", ""},
		{rateLimit(90 * time.Second), 503, "UNAVAILABLE", "60"},
		{rateLimit(10 * time.Millisecond), 503, "UNAVAILABLE", "1"},
		{context.Canceled, 503, "UNAVAILABLE", ""}, // somebody's work was ended, but the client is here
		{errors.New("anything"), 503, "UNAVAILABLE", ""},
	} {
		h.mu.Lock()
		h.fakeContents.err = fmt.Errorf("asked: %w", c.err)
		h.mu.Unlock()
		g := h.get("/v2/a/b/manifests/t")
		h.wantError(g, c.status, c.code)
		h.want(g, c.status, "Retry-After: "+c.retry)
	}
}

func TestMessagesKeepSecrets(t *testing.T) {
	err := errors.New("Get \"https://s3.example/b/k?X-Amz-Signature=secret&x=y\": refused\x1b[31m\r\nby ?token=secret too")
	got := plain(err)
	if strings.Contains(got, "secret") || strings.ContainsAny(got, "\x1b\r\n") || !strings.Contains(got, `https://s3.example/b/k?..."`) || !strings.HasSuffix(got, "too") {
		t.Errorf("%q", got)
	}
	if long := plain(errors.New(strings.Repeat("é?", 1<<20))); len(long) > 2*maxMessage {
		t.Errorf("%d bytes", len(long))
	}
}
