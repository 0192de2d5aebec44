package bucket

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"hostlocal/cmd/testdeps/need"
	"hostlocal/registryd/upstream/hubtest"
	"hostlocal/s3store"
	"hostlocal/s3store/s3test"
)

func TestMain(m *testing.M) { hubtest.Main(m) }

// before starts a proxy before a store.
func before(t testing.TB, backend string, o Options) *Proxy {
	t.Helper()
	p, err := Start(backend, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return p
}

// fakeStore is an S3 in memory with an object "blob" of these bytes.
func fakeStore(t testing.TB, blob []byte) *s3test.Server {
	s := s3test.New(t)
	s.Put("blob", blob)
	return s
}

// open returns a driver that speaks to the store through p.
func open(t testing.TB, p *Proxy, c s3store.Config, client string) s3store.Bucket {
	t.Helper()
	c.Endpoint, c.Client = p.URL, client
	b, err := s3store.OpenBucket(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(t testing.TB, b s3store.Bucket, key string, off, n int64) ([]byte, error) {
	t.Helper()
	r, _, err := b.Get(t.Context(), key, off, n, "")
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// realStore starts a server over a folder, which is its bucket, and returns where it
// is and who may use it.
func realStore(t testing.TB, name string) (backend string, c s3store.Config) {
	t.Helper()
	addr, dir := free(t), t.TempDir()
	const key, secret = "registryd", "registryd-secret"
	cmd := exec.Command(need.Binary(t, name), "--port", addr, "--quiet", "posix", dir)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+key, "ROOT_SECRET_KEY="+secret)
	if name == "minio" {
		cmd = exec.Command(need.Binary(t, name), "server", "--quiet", "--address", addr, "--console-address", free(t), dir)
		cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+key, "MINIO_ROOT_PASSWORD="+secret, "MINIO_UPDATE=off")
	}
	if err := os.Mkdir(filepath.Join(dir, s3test.Bucket), 0o755); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, log.String())
		}
	})
	backend = "http://" + addr
	c = s3store.Config{URL: "s3://" + s3test.Bucket, Endpoint: backend, Region: "us-east-1", AccessKey: key, SecretKey: secret}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		b, err := s3store.OpenBucket(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = b.List(context.Background(), "", "", "", 1); err == nil {
			return backend, c
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer: %v", name, err)
		}
	}
}

// free is a port that was free a moment ago.
func free(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
