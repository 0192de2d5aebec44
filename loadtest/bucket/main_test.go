package bucket

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hostlocal/cmd/testdeps/need"
	"hostlocal/loadtest/child"
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
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, s3test.Bucket), 0o755); err != nil {
		t.Fatal(err)
	}
	for try := 1; ; try++ {
		c, said := tryStore(t, name, dir)
		if said == "" {
			return c.Endpoint, c
		}
		if try == 5 || !strings.Contains(said, child.Taken) {
			t.Fatalf("%s does not start: %s", name, said)
		}
	}
}

// tryStore is realStore on ports that were free a moment ago. If the server ends, said
// is why.
func tryStore(t testing.TB, name, dir string) (c s3store.Config, said string) {
	t.Helper()
	at, err := child.FreeAddresses(2)
	if err != nil {
		t.Fatal(err)
	}
	const key, secret = "registryd", "registryd-secret"
	cmd := exec.Command(need.Binary(t, name), "--port", at[0], "--quiet", "posix", dir)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+key, "ROOT_SECRET_KEY="+secret)
	if name == "minio" {
		cmd = exec.Command(need.Binary(t, name), "server", "--quiet", "--address", at[0], "--console-address", at[1], dir)
		cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+key, "MINIO_ROOT_PASSWORD="+secret, "MINIO_UPDATE=off")
	}
	log, ended := new(bytes.Buffer), make(chan struct{})
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("%s said:\n%s", name, log)
		}
	})
	c = s3store.Config{URL: "s3://" + s3test.Bucket, Endpoint: "http://" + at[0], Region: "us-east-1", AccessKey: key, SecretKey: secret}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		b, err := s3store.OpenBucket(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.List(context.Background(), "", "", "", 1)
		select {
		case <-ended:
			return c, "it ended: " + log.String()
		default:
		}
		if err == nil {
			return c, ""
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer: %v", name, err)
		}
	}
}
