package s3store_test

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hostlocal/s3store"
	"hostlocal/s3store/s3test"
)

func TestOpenNamesWhatIsWrong(t *testing.T) {
	for url, c := range map[string]s3store.Config{
		"":                    {},
		"images":              {},
		"http://host/x":       {},
		"s3://":               {},
		"s3://b/../x":         {},
		"file://host/x":       {},
		"file:relative":       {},
		"file:///dev/null/at": {},
		"s3://a":              {Endpoint: "127.0.0.1:9000"},
		"s3://b":              {Endpoint: "http://h/path"},
		"s3://c":              {Client: "gcs"},
	} {
		c.URL = url
		if _, err := s3store.OpenBucket(context.Background(), c); err == nil {
			t.Errorf("%q was opened", url)
		}
	}
}

func TestOpenSpeaksToNobody(t *testing.T) {
	for _, client := range []string{"aws", "minio"} {
		s := s3test.New(t)
		mustOpen(t, s.Config(client))
		if n := s.Connections(); n != 0 {
			t.Errorf("%s: %d connections", client, n)
		}
	}
}

func TestPrefixIsAppliedOnce(t *testing.T) {
	for _, client := range []string{"aws", "minio"} {
		s := s3test.New(t)
		c := s.Config(client)
		c.URL += "/team/registry/"
		h := &tester{T: t, ctx: context.Background(), b: mustOpen(t, c)}
		h.mustPut("a/b", []byte("x"))
		if keys := strings.Join(s.Keys(), " "); keys != "team/registry/a/b" {
			t.Errorf("%s: keys %s", client, keys)
		}
		page, err := h.b.List(h.ctx, "", "/", "", 10)
		if err != nil || len(page.Prefixes) != 1 || page.Prefixes[0] != "a/" {
			t.Errorf("%s: %+v, %v", client, page, err)
		}
	}
}

// Credentials come from the environment, and again, once, when the store says that
// they have expired.
func TestExpiredCredentialsAreRefreshedOnce(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", s3test.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	for _, client := range []string{"aws", "minio"} {
		s := s3test.New(t)
		c := s.Config(client)
		c.AccessKey, c.SecretKey = "", ""
		h := &tester{T: t, ctx: context.Background(), b: mustOpen(t, c)}
		s.Fault(s3test.Times(1, "", s3test.Fault{Status: 400, Code: "ExpiredToken"}))
		h.mustPut("x", blob)
		h.want("x", blob)
		if n := s.Count("put"); n != 2 {
			t.Errorf("%s: %d puts", client, n)
		}
		s.Fault(s3test.Always("", s3test.Fault{Status: 400, Code: "ExpiredToken"}))
		_, _, err := h.get("x", 0, -1, "")
		h.again(err, false)
		if n := s.Count("get"); n != 3 {
			t.Errorf("%s: %d gets", client, n)
		}
	}
}

// BenchmarkGet compares the drivers on one object of 64 MiB, from a fake that is
// as fast as it can.
func BenchmarkGet(b *testing.B) {
	const size = 64 << 20
	s := s3test.New(b)
	s.PutRepeated("blob", pattern(1<<20), size)
	folder := mustOpen(b, s3store.Config{URL: "file://" + b.TempDir()})
	if _, err := folder.Put(b.Context(), "blob", strings.NewReader(strings.Repeat("x", size)), size, s3store.PutOptions{}); err != nil {
		b.Fatal(err)
	}
	for name, bucket := range map[string]s3store.Bucket{"aws": mustOpen(b, s.Config("aws")), "minio": mustOpen(b, s.Config("minio")), "folder": folder} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			buf := make([]byte, 256<<10)
			for b.Loop() {
				body, _, err := bucket.Get(b.Context(), "blob", 0, -1, "")
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{body}, buf)
				if err != nil || n != size {
					b.Fatal(n, err)
				}
				body.Close()
			}
		})
	}
}

func TestCloseLeavesNoConnectionBehind(t *testing.T) {
	for _, client := range []string{"aws", "minio"} {
		s := s3test.New(t)
		c := s.Config(client)
		c.URL += "/prefix"
		store := s3store.New(mustOpen(t, c), s3store.Options{})
		if _, err := store.Exists(t.Context(), "team/app"); err != nil {
			t.Fatal(err)
		}
		if s.Open() == 0 {
			t.Fatalf("%s: no connection was kept", client)
		}
		store.Close()
		for end := time.Now().Add(10 * time.Second); s.Open() > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %d connections are open after Close", client, s.Open())
			}
		}
	}
}
