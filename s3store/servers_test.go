package s3store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"hostlocal/cmd/testdeps/need"
	"hostlocal/s3store"
	"hostlocal/s3store/s3test"
)

// freePort is one that was free a moment ago.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

const realKey, realSecret = "registryd", "registryd-secret"

// startMinio runs a real MinIO and returns how to reach a fresh bucket in it.
func startMinio(t testing.TB) func(client string) s3store.Config {
	binary := need.Binary(t, "minio")
	return start(t, func(addr, dir string) *exec.Cmd {
		return exec.Command(binary, "server", "--quiet", "--address", addr, "--console-address", freePort(t), dir)
	}, "MINIO_ROOT_USER="+realKey, "MINIO_ROOT_PASSWORD="+realSecret, "MINIO_UPDATE=off")
}

// startVersity runs a real versitygw over a folder.
func startVersity(t testing.TB) func(client string) s3store.Config {
	binary := need.Binary(t, "versitygw")
	return start(t, func(addr, dir string) *exec.Cmd {
		return exec.Command(binary, "--port", addr, "--quiet", "posix", dir)
	}, "ROOT_ACCESS_KEY="+realKey, "ROOT_SECRET_KEY="+realSecret)
}

// start runs the server until the test ends. Its bucket is a folder for both.
func start(t testing.TB, command func(addr, dir string) *exec.Cmd, env ...string) func(client string) s3store.Config {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, s3test.Bucket), 0o755); err != nil {
		t.Fatal(err)
	}
	config := func(addr, client string) s3store.Config {
		return s3store.Config{URL: "s3://" + s3test.Bucket, Endpoint: "http://" + addr, Region: "us-east-1", Client: client,
			AccessKey: realKey, SecretKey: realSecret}
	}
	addr := serve(t, func(addr string) *exec.Cmd {
		cmd := command(addr, dir)
		cmd.Env = append(os.Environ(), env...)
		return cmd
	}, func(addr string) error {
		_, err := mustOpen(t, config(addr, "aws")).List(context.Background(), "", "", "", 1)
		return err
	})
	return func(client string) s3store.Config { return config(addr, client) }
}

// serve runs a server until the test ends, and returns its address once ask says that
// it answers there. It begins anew where somebody else was given the port meanwhile.
func serve(t testing.TB, command func(addr string) *exec.Cmd, ask func(addr string) error) string {
	t.Helper()
	for try := 1; ; try++ {
		addr := freePort(t)
		cmd, log, ended := command(addr), new(bytes.Buffer), make(chan struct{})
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
				t.Logf("%s said:\n%s", cmd.Path, log)
			}
		})
		deadline := time.After(time.Minute)
	asking:
		for {
			err := ask(addr)
			select {
			case <-ended:
				if try == 5 || !bytes.Contains(log.Bytes(), []byte("already in use")) {
					t.Fatalf("%s has ended: %s", cmd.Path, log)
				}
				break asking
			case <-deadline:
				t.Fatalf("%s does not answer: %v", cmd.Path, err)
			default:
			}
			if err == nil {
				return addr
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// A maker opens the same empty store each time that it is called.
type maker func(t testing.TB) s3store.Bucket

// eachStore runs f for every driver over every store it can drive.
func eachStore(t *testing.T, f func(t *testing.T, open maker)) {
	t.Run("folder", func(t *testing.T) {
		f(t, opener(s3store.Config{URL: "file://" + t.TempDir()}))
	})
	for _, store := range []struct {
		name  string
		start func(testing.TB) func(string) s3store.Config
	}{
		{"fake", func(t testing.TB) func(string) s3store.Config { return s3test.New(t).Config }},
		{"minio", startMinio},
		{"versitygw", startVersity},
	} {
		t.Run(store.name, func(t *testing.T) {
			config := store.start(t)
			for _, client := range []string{"aws", "minio"} {
				t.Run("by "+client, func(t *testing.T) {
					c := config(client)
					c.URL += "/by-" + client // a prefix each: keys of one are not seen by the other
					f(t, opener(c))
				})
			}
		})
	}
}

func opener(c s3store.Config) maker {
	return func(t testing.TB) s3store.Bucket { return mustOpen(t, c) }
}

func mustOpen(t testing.TB, c s3store.Config) s3store.Bucket {
	t.Helper()
	b, err := s3store.OpenBucket(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pattern is n bytes in which every 8, aligned, differ from all others.
func pattern(n int) []byte {
	var b []byte
	for i := uint64(0); len(b) < n; i++ {
		b = binary.BigEndian.AppendUint64(b, i*0x9e3779b97f4a7c15)
	}
	return b[:n]
}
