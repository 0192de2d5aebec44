package bucket

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"runtime"
	"testing"
	"time"

	"hostlocal/loadtest/line"
	"hostlocal/s3store"
)

// pattern is n bytes in which a shift or a hole shows.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i>>11) ^ byte(i*7)
	}
	return p
}

// TestEveryOperationPassesAndIsCounted takes a second, and two with each real store.
func TestEveryOperationPassesAndIsCounted(t *testing.T) {
	stores := map[string]func(t *testing.T) (string, s3store.Config){
		"s3test": func(t *testing.T) (string, s3store.Config) {
			s := fakeStore(t, nil)
			return s.URL, s.Config("aws")
		},
		"minio":     func(t *testing.T) (string, s3store.Config) { return realStore(t, "minio") },
		"versitygw": func(t *testing.T) (string, s3store.Config) { return realStore(t, "versitygw") },
	}
	for name, start := range stores {
		t.Run(name, func(t *testing.T) {
			backend, config := start(t)
			for _, client := range []string{"aws", "minio"} {
				t.Run(client, func(t *testing.T) {
					p := before(t, backend, Options{})
					everyOperation(t, open(t, p, config, client), client+"/a b+c/")
					c := p.Counts()
					want := map[string]int{"put": 2, "stat": 2, "get": 3, "list": 1, "delete": 2, "create_multipart": 2, "upload_part": 3, "copy_part": 1, "complete_multipart": 1, "abort_multipart": 1}
					if got := maps.Clone(c.Requests); !maps.Equal(got, want) {
						t.Errorf("counted %v, not %v", got, want)
					}
					// The SDKs frame some bodies in chunks with signatures, so received is a little more.
					if in := int64(putSize + 11<<20 + 100); c.Received < in || c.Received > in+in/100 {
						t.Errorf("received %d bytes of bodies, not about %d", c.Received, in)
					}
					if out := int64(putSize + 11<<20 + 1000); c.Sent < out || c.Sent > out+16<<10 || c.Wire <= c.Sent {
						t.Errorf("sent %d bytes of bodies, %d on the wire, not about %d", c.Sent, c.Wire, out)
					}
					p.Forget()
					if c := p.Counts(); len(c.Requests) != 0 || c.Sent+c.Received+c.Wire != 0 {
						t.Errorf("after Forget: %+v", c)
					}
				})
			}
		})
	}
}

const putSize = 3 << 20

// everyOperation does each of a driver's calls once or twice.
func everyOperation(t *testing.T, b s3store.Bucket, dir string) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	data := pattern(putSize)
	_, err := b.Put(ctx, dir+"x", bytes.NewReader(data), putSize, s3store.PutOptions{IfNoneMatch: true})
	must(err)
	if _, err = b.Put(ctx, dir+"x", bytes.NewReader(data[:0]), 0, s3store.PutOptions{IfNoneMatch: true}); !errors.Is(err, s3store.ErrPrecondition) {
		t.Errorf("creating twice: %v", err)
	}
	o, err := b.Stat(ctx, dir+"x")
	must(err)
	if _, err = b.Stat(ctx, dir+"none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat of nothing: %v", err)
	}
	got, err := read(t, b, dir+"x", 0, -1)
	must(err)
	part, err := read(t, b, dir+"x", 1<<20+5, 1000)
	must(err)
	if o.Size != putSize || !bytes.Equal(got, data) || !bytes.Equal(part, data[1<<20+5:][:1000]) {
		t.Errorf("what was read is not what was put: %d, %d and %d bytes", o.Size, len(got), len(part))
	}
	page, err := b.List(ctx, dir, "", "", 10)
	must(err)
	if len(page.Objects) != 1 {
		t.Errorf("list: %+v", page)
	}
	large := pattern(11 << 20)
	id, err := b.CreateMultipart(ctx, dir+"y")
	must(err)
	var parts []s3store.Part
	for i, piece := range [][]byte{large[:6<<20], large[6<<20:]} {
		etag, err := b.UploadPart(ctx, dir+"y", id, i+1, bytes.NewReader(piece), int64(len(piece)))
		must(err)
		parts = append(parts, s3store.Part{Number: i + 1, ETag: etag})
	}
	_, err = b.CompleteMultipart(ctx, dir+"y", id, parts, s3store.CompleteOptions{})
	must(err)
	got, err = read(t, b, dir+"y", 0, -1)
	must(err)
	if !bytes.Equal(got, large) {
		t.Errorf("what was read is not what was sent in parts: %d bytes", len(got))
	}
	id, err = b.CreateMultipart(ctx, dir+"z")
	must(err)
	_, err = b.UploadPart(ctx, dir+"z", id, 1, bytes.NewReader(data[:100]), 100)
	must(err)
	_, err = b.CopyPart(ctx, dir+"z", id, 2, dir+"y", "", 1<<20, 6<<20)
	must(err)
	must(b.AbortMultipart(ctx, dir+"z", id))
	must(b.Delete(ctx, dir+"x"))
	must(b.Delete(ctx, dir+"y"))
}

// TestRatesBoundBothWays takes a second and a half.
func TestRatesBoundBothWays(t *testing.T) {
	data := pattern(2 << 20)
	s := fakeStore(t, data)
	p := before(t, s.URL, Options{ConnectionRate: 8 << 20})
	b := open(t, p, s.Config("aws"), "aws")
	timed := func(what string, at int64, work func() error) {
		t.Helper()
		start := time.Now()
		if err := work(); err != nil {
			t.Fatal(err)
		}
		want := time.Duration(float64(len(data)) / float64(at) * float64(time.Second))
		if took := time.Since(start); took < want*9/10 {
			t.Errorf("%s took %v, less than %v", what, took, want)
		}
	}
	get := func() error { _, err := read(t, b, "blob", 0, -1); return err }
	put := func() error {
		_, err := b.Put(t.Context(), "new", bytes.NewReader(data), int64(len(data)), s3store.PutOptions{})
		return err
	}
	timed("reading", 8<<20, get)
	timed("writing", 8<<20, put)
	p.SetShape(Options{TotalRate: 4 << 20})
	timed("reading at the total rate", 4<<20, get)
	p.SetShape(Options{Latency: 100 * time.Millisecond})
	start := time.Now()
	if _, err := b.Stat(t.Context(), "blob"); err != nil || time.Since(start) < 100*time.Millisecond {
		t.Errorf("a stat took %v, %v", time.Since(start), err)
	}
}

// TestFaultsReachClients takes a second.
func TestFaultsReachClients(t *testing.T) {
	data := pattern(300_000)
	s := fakeStore(t, data)
	p := before(t, s.URL, Options{})
	plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(ctx context.Context) (int, []byte, error) {
		r, err := http.NewRequestWithContext(ctx, "GET", p.URL+"/images/blob", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0")
		resp, err := plain.Do(r)
		if err != nil {
			return 0, nil, err
		}
		defer resp.Body.Close()
		var body bytes.Buffer
		_, err = body.ReadFrom(resp.Body)
		return resp.StatusCode, body.Bytes(), err
	}
	if status, body, err := get(t.Context()); status != 200 || err != nil || !bytes.Equal(body, data) {
		t.Fatalf("in good times: %d, %d bytes, %v", status, len(body), err)
	}
	during := func(f line.Fault) (stop func()) {
		t.Helper()
		end, err := p.Play([]line.Fault{f})
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			t.Helper()
			if err := end(); err != nil {
				t.Fatal(err)
			}
			if status, body, err := get(t.Context()); status != 200 || err != nil || !bytes.Equal(body, data) {
				t.Fatalf("after %s: %d, %d bytes, %v", f.Kind, status, len(body), err)
			}
		}
	}
	stop := during(line.Fault{Kind: line.Status, Value: 503})
	if status, body, _ := get(t.Context()); status != 503 || !bytes.Contains(body, []byte("<Code>SlowDown</Code>")) || p.Counts().Refused != 1 {
		t.Errorf("status 503: %d %s; refused %d", status, body, p.Counts().Refused)
	}
	stop()
	stop = during(line.Fault{Kind: line.Cut, Value: 70_000})
	if status, body, err := get(t.Context()); err == nil || status != 200 || !bytes.Equal(body, data[:70_000]) {
		t.Errorf("cut: %d, %d bytes, %v", status, len(body), err)
	}
	stop()
	stop = during(line.Fault{Kind: line.Down})
	if _, _, err := get(t.Context()); err == nil {
		t.Error("down, and answered")
	}
	stop()
	stop = during(line.Fault{Kind: line.Stall})
	done, asked := make(chan error), p.Counts().Requests["get"]
	go func() {
		_, _, err := get(t.Context())
		done <- err
	}()
	for p.Counts().Requests["get"] == asked {
		runtime.Gosched()
	}
	select {
	case err := <-done:
		t.Errorf("stalled, and answered: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("after the stall: %v", err)
	}
}
