package registryd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"

	"hostlocal/manifest"
)

func blobPath(d manifest.Digest) string { return "/v2/library/app/blobs/" + d.String() }

// bodies adds a blob in each of the ways in which it may be there, as a file, in
// memory and landing, and returns them with what their source is. The latter two
// have digests of something else, so that there can be all three.
func bodies(h *tester, body []byte) map[manifest.Digest]string {
	file, _ := h.file(body)
	memory, fill := manifest.DigestOf([]byte("memory")), manifest.DigestOf([]byte("fill"))
	h.setBlob(memory, func(int64) (hold, error) { return memoryHold(body), nil })
	h.setBlob(fill, func(int64) (hold, error) { return &fillHold{body: body, size: int64(len(body))}, nil })
	return map[manifest.Digest]string{file: SourceDisk, memory: SourceDisk, fill: SourceFill}
}

func TestBlobsHaveTheirHeaders(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	body := pattern(200_000)
	for d, source := range bodies(h, body) {
		headers := []string{"Content-Type: application/octet-stream", "Docker-Content-Digest: " + d.String(), `Etag: "` + d.String() + `"`,
			"Content-Length: 200000", "Accept-Ranges: bytes", "X-Registryd-Source: " + source, "Content-Encoding:"}
		g := h.get(blobPath(d), "Accept-Encoding: gzip, zstd")
		h.want(g, 200, headers...)
		if !bytes.Equal(g.body, body) {
			t.Errorf("%s: other bytes", source)
		}
		opened := h.opened.Load()
		h.want(h.do("HEAD", blobPath(d)), 200, headers...)
		if h.opened.Load() != opened {
			t.Errorf("%s: a HEAD opened the blob", source)
		}
		h.want(h.get(blobPath(d), `If-None-Match: "`+d.String()+`"`), 304, "Content-Type:", `Etag: "`+d.String()+`"`)
		if h.opened.Load() != opened {
			t.Errorf("%s: a client that has the blob opened it", source)
		}
	}
}

func TestBlobRanges(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	body := pattern(200_000)
	for d, source := range bodies(h, body) {
		etag := `"` + d.String() + `"`
		for _, c := range []struct {
			headers  []string
			status   int
			off, end int
			ranged   string
		}{
			{[]string{"Range: bytes=0-"}, 206, 0, 200_000, "bytes 0-199999/200000"},
			{[]string{"Range: bytes=199999-"}, 206, 199_999, 200_000, "bytes 199999-199999/200000"},
			{[]string{"Range: bytes=1000-1999"}, 206, 1000, 2000, "bytes 1000-1999/200000"},
			{[]string{"Range: bytes=-5"}, 206, 199_995, 200_000, "bytes 199995-199999/200000"},
			{[]string{"Range: bytes=7-99999999999999999999"}, 206, 7, 200_000, "bytes 7-199999/200000"},
			{[]string{"Range: BYTES= 7-8"}, 206, 7, 9, "bytes 7-8/200000"},
			{[]string{"Range: lines=5-"}, 200, 0, 200_000, ""},
			{[]string{"Range: bytes=1-2,3-4" + strings.Repeat(",5-6", 20)}, 200, 0, 200_000, ""},
			{[]string{"Range: bytes=10-19", "If-Range: " + etag}, 206, 10, 20, "bytes 10-19/200000"},
			{[]string{"Range: bytes=10-19", `If-Range: "other"`}, 200, 0, 200_000, ""},
			{[]string{"Range: bytes=10-19", "If-Range: Mon, 02 Jan 2006 15:04:05 GMT"}, 200, 0, 200_000, ""},
		} {
			g := h.get(blobPath(d), c.headers...)
			h.want(g, c.status, "Content-Range: "+c.ranged, fmt.Sprintf("Content-Length: %d", c.end-c.off), "X-Registryd-Source: "+source)
			if !bytes.Equal(g.body, body[c.off:c.end]) {
				t.Errorf("%s: %v gives other bytes", source, c.headers)
			}
		}
		for _, rng := range []string{"bytes=200000-", "bytes=300000-400000", "bytes=-0", "bytes=5-3", "bytes=99999999999999999999-"} {
			g := h.get(blobPath(d), "Range: "+rng)
			h.wantError(g, 416, "RANGE_INVALID")
			h.want(g, 416, "Content-Range: bytes */200000")
		}
	}
}

func TestSeveralRangesOfAFile(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	d, _ := h.file(pattern(1000))
	g := h.get(blobPath(d), "Range: bytes=0-1,998-999")
	h.want(g, 206)
	if ct := g.header.Get("Content-Type"); !strings.HasPrefix(ct, "multipart/byteranges") {
		t.Errorf("Content-Type %q", ct)
	}
}

func TestEmptyBlob(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	for d := range bodies(h, []byte{}) {
		h.want(h.get(blobPath(d)), 200, "Content-Length: 0")
		h.want(h.get(blobPath(d), "Range: bytes=0-"), 200, "Content-Length: 0")
	}
}

func TestFillOfUnknownLengthIsChunked(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	body := pattern(100_000)
	d := h.fill(&fillHold{body: body, size: -1})
	g := h.get(blobPath(d), "Range: bytes=5-")
	h.want(g, 200, "Content-Length:", "Content-Range:")
	if !bytes.Equal(g.body, body) {
		t.Error("other bytes")
	}
}

func TestUnknownLengthNeedsChunks(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	d := h.fill(&fillHold{body: pattern(100_000), size: -1})
	c := h.dial()
	c.send("GET " + blobPath(d) + " HTTP/1.0\r\n\r\n")
	if s := c.status(); s != 503 {
		t.Errorf("status %d", s)
	}
}

func TestHeadersOfARangeLeaveBeforeItsBytes(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	gate := make(chan struct{})
	body := pattern(1000)
	d := h.fill(&fillHold{body: body, size: 1000, gate: gate})
	req, _ := http.NewRequest("GET", h.base+blobPath(d), nil)
	req.Header.Set("Range", "bytes=900-")
	res, err := h.client.Do(req) // returns with the headers, while the gate is shut
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 206 || res.Header.Get("Content-Range") != "bytes 900-999/1000" {
		t.Errorf("%d %q", res.StatusCode, res.Header.Get("Content-Range"))
	}
	close(gate)
	if got, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(got, body[900:]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestFillThatFailsBeforeItsFirstByteIsAnError(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{errors.New("no source answers"), 503, "UNAVAILABLE"},
		{fmt.Errorf("filling: %w", manifest.ErrMismatch), 502, "UNAVAILABLE"},
		{fmt.Errorf("filling: %w", os.ErrDeadlineExceeded), 504, "UNAVAILABLE"},
		{fmt.Errorf("filling: %w", fs.ErrNotExist), 404, "BLOB_UNKNOWN"},
		{fmt.Errorf("filling: %w", fs.ErrPermission), 403, "DENIED"},
	} {
		d := h.fill(&fillHold{body: pattern(5000), size: 5000, err: c.err})
		h.wantError(h.get(blobPath(d)), c.status, c.code)
		g := h.get(blobPath(d), "Range: bytes=10-")
		h.wantError(g, c.status, c.code)
		h.want(g, c.status, "Content-Range:")
	}
}

func TestFillThatFailsLaterBreaksTheConnection(t *testing.T) {
	h := newTester(t, HandlerOptions{})
	for _, size := range []int64{500_000, -1} {
		for _, until := range []int64{1, 300, 5000, 300_000, 499_999} {
			d := h.fill(&fillHold{body: pattern(500_000), size: size, until: until, err: errors.New("gone")})
			req, _ := http.NewRequest("GET", h.base+blobPath(d), nil)
			res, err := h.client.Do(req)
			if err != nil {
				continue // broken before the status left: broken all the same
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err == nil || !bytes.HasPrefix(pattern(500_000), body) || int64(len(body)) > until {
				t.Errorf("size %d until %d: %d bytes, %v", size, until, len(body), err)
			}
		}
	}
}
