package registryd

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestRangesOfABodyOfTenBytes(t *testing.T) {
	for header, want := range map[string]string{
		"bytes=0-":                          "0+10",
		"bytes=0-0":                         "0+1",
		"bytes=3-5":                         "3+3",
		"bytes=9-":                          "9+1",
		"bytes=3-9223372036854775807":       "3+7",
		"bytes=3-99999999999999999999999":   "3+7",
		"bytes=-1":                          "9+1",
		"bytes=-10":                         "0+10",
		"bytes=-99":                         "0+10",
		"Bytes= 2-3 ":                       "2+2",
		"bytes=10-":                         "beyond",
		"bytes=10-12":                       "beyond",
		"bytes=-0":                          "beyond",
		"bytes=99999999999999999999999999-": "beyond",
		"bytes=0-1,3-4":                     "many",
		"bytes=,":                           "many",
		"":                                  "none",
		"bytes":                             "none",
		"bytes=":                            "none",
		"bytes=-":                           "none",
		"bytes=5-3":                         "beyond",
		"bytes=a-b":                         "none",
		"bytes=+1-2":                        "none",
		"bytes=--1":                         "none",
		"bytes=1-2-3":                       "none",
		"bytes=1 - 2":                       "none",
		"lines=0-1":                         "none",
		"bytes=0x1-":                        "none",
		"bytes=" + strings.Repeat("1", 10000) + "-": "beyond",
	} {
		if got := readRange(header, 10); got != want {
			t.Errorf("%.60q: %s, want %s", header, got, want)
		}
	}
}

// readRange is what a header asks of size bytes, in a form that can be compared.
func readRange(header string, size int64) string {
	r, kind := parseRange(header)
	switch kind {
	case rangeNone:
		return "none"
	case rangeMany:
		return "many"
	}
	off, n, ok := r.within(size)
	if !ok {
		return "beyond"
	}
	return fmt.Sprintf("%d+%d", off, n)
}

// FuzzRange holds the parser to net/http's, where that understands the header at
// all, and to the bounds of the body.
func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-", "bytes=-5", "bytes=2-3", "bytes=9-1", "bytes=5-99999999999999999999", "bytes=1-2,3-4", "bytes= 1-2", "bytes=-0"} {
		f.Add(s, 10)
	}
	f.Fuzz(func(t *testing.T, header string, size int) {
		size = max(1, min(size, 1<<16))
		r, kind := parseRange(header)
		if kind != rangeOne {
			if r != (byteRange{}) {
				t.Fatalf("%q: %v without a range", header, r)
			}
			return
		}
		off, n, ok := r.within(int64(size))
		if ok && (off < 0 || n <= 0 || off+n > int64(size)) {
			t.Fatalf("%q of %d bytes: %d bytes from %d", header, size, n, off)
		}
		if r.start() < 0 {
			t.Fatalf("%q starts at %d", header, r.start())
		}
		req := httptest.NewRequest("GET", "/", nil)
		req.Header.Set("Range", header)
		rec := httptest.NewRecorder()
		http.ServeContent(rec, req, "", time.Time{}, bytes.NewReader(make([]byte, size)))
		if rec.Code == http.StatusPartialContent && r.last != 0 { // of "-0" it sends 206 and nothing
			if want := contentRange(off, n, int64(size)); !ok || rec.Header().Get("Content-Range") != want {
				t.Fatalf("%q of %d bytes: %q, net/http says %q", header, size, want, rec.Header().Get("Content-Range"))
			}
		}
	})
}
