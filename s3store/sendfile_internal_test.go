package s3store

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// A part whose credentials ran out in the middle of it is sent again while the first
// connection may still be at it: each of its bytes once, and in their order.
func TestAPartThatIsSentAgainIsTheSamePart(t *testing.T) {
	const size = 16 << 20
	all := make([]byte, 3*size)
	rand.NewChaCha8([32]byte{9}).Read(all)
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, client := range []string{"aws", "minio"} {
		for name, source := range map[string]io.ReaderAt{"file": f, "memory": bytes.NewReader(all)} {
			t.Run(client+" "+name, func(t *testing.T) {
				var asked, right, wrong atomic.Int32
				srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if asked.Add(1)%2 == 1 {
						io.CopyN(io.Discard, r.Body, 1<<20)
						c, _, err := w.(http.Hijacker).Hijack()
						if err != nil {
							return
						}
						body := `<?xml version="1.0"?><Error><Code>ExpiredToken</Code><Message>x</Message></Error>`
						fmt.Fprintf(c, "HTTP/1.1 400 Bad Request\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
						time.AfterFunc(time.Second, func() { c.Close() }) // nothing more is read until then
						return
					}
					time.Sleep(100 * time.Millisecond) // the first is closed by the client meanwhile
					switch got, err := io.ReadAll(r.Body); {
					case err != nil:
					case bytes.Equal(got, all[size:2*size]):
						right.Add(1)
					default:
						wrong.Add(1)
					}
					w.Header().Set("ETag", `"x"`)
				}))
				defer srv.Close()
				b, err := OpenBucket(t.Context(), Config{URL: "s3://bucket", Endpoint: srv.URL, Region: "us-east-1", Client: client, PathStyle: true, AccessKey: "a", SecretKey: "b"})
				if err != nil {
					t.Fatal(err)
				}
				for range 5 {
					// It may break off before the client has read why: that is tried again above.
					if _, err := b.UploadPart(t.Context(), "key", "id", 2, newSection(source, size, size), size); err != nil {
						t.Log(err)
					}
				}
				if wrong.Load() > 0 || right.Load() == 0 {
					t.Errorf("%d parts came as they are, and %d as others", right.Load(), wrong.Load())
				}
			})
		}
	}
}
