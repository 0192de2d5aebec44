package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"hostlocal/loadtest"
	"hostlocal/loadtest/bucket"
	"hostlocal/loadtest/child"
	"hostlocal/loadtest/target"
)

// A bucketServer is the shared store of one turn: a folder, or a server with a proxy
// before it that counts and shapes.
type bucketServer struct {
	of     target.Bucket
	server *child.Process // nil for a folder
	proxy  *bucket.Proxy  // nil for a folder
	dir    string
}

// The bucket and who may use it, in a server that only this experiment knows.
const bucketName, bucketKey, bucketSecret = "storm", "registryd", "registryd-secret"

// openBucket starts the scenario's store, empty; nil if it has none.
func (t *turn) openBucket(ctx context.Context) (*bucketServer, error) {
	b := t.Scenario.Bucket
	if b.Kind == "" || b.Kind == "none" {
		return nil, nil
	}
	dir, err := os.MkdirTemp(t.dir, "bucket-")
	if err != nil {
		return nil, err
	}
	s := &bucketServer{dir: dir}
	if b.Kind == "folder" {
		s.of = target.Bucket{URL: "file://" + dir}
		return s, nil
	}
	if err := s.start(ctx, b, t.Binaries[b.Kind]); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// start runs the server. A folder beside its others is a bucket for both kinds.
func (s *bucketServer) start(ctx context.Context, b loadtest.Bucket, given string) error {
	binary, err := child.Find(b.Kind, b.Kind, given)
	if err != nil {
		return err
	}
	at, err := child.FreeAddresses(2)
	if err != nil {
		return err
	}
	data := filepath.Join(s.dir, "data")
	for _, dir := range []string{filepath.Join(data, bucketName), filepath.Join(s.dir, "tmp")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	spec := child.Spec{Name: b.Kind, Binary: binary, Dir: s.dir}
	ready := "http://" + at[0] + "/health"
	switch b.Kind {
	case "minio":
		ready = "http://" + at[0] + "/minio/health/ready"
		spec.Args = []string{"server", "--quiet", "--address", at[0], "--console-address", at[1], data}
		spec.Env = []string{"MINIO_ROOT_USER=" + bucketKey, "MINIO_ROOT_PASSWORD=" + bucketSecret, "MINIO_UPDATE=off"}
	case "versitygw":
		spec.Args = []string{"--port", at[0], "--health", "/health", "--quiet", "posix", data}
		spec.Env = []string{"ROOT_ACCESS_KEY=" + bucketKey, "ROOT_SECRET_KEY=" + bucketSecret}
	}
	if s.server, err = child.Start(spec); err != nil {
		return err
	}
	if err := s.server.Answers(ctx, ready); err != nil {
		return err
	}
	s.proxy, err = bucket.Start("http://"+at[0], bucket.Options{
		Latency: b.Latency, ConnectionRate: int64(b.ConnectionRate), TotalRate: int64(b.TotalRate),
	})
	if err != nil {
		return fmt.Errorf("the proxy before the bucket: %w", err)
	}
	s.of = target.Bucket{URL: "s3://" + bucketName, Endpoint: s.proxy.URL, AccessKey: bucketKey, SecretKey: bucketSecret}
	return nil
}

func (s *bucketServer) close() error {
	var failed []error
	if s.proxy != nil {
		failed = append(failed, s.proxy.Close())
	}
	if s.server != nil {
		s.server.Stop()
	}
	return errors.Join(append(failed, os.RemoveAll(s.dir))...)
}

func (s *bucketServer) forget() {
	if s.proxy != nil {
		s.proxy.Forget()
	}
}

// traffic is what the server was asked; nothing of a folder, which nobody asks.
func (s *bucketServer) traffic() loadtest.Traffic {
	if s.proxy == nil {
		return loadtest.Traffic{}
	}
	c := s.proxy.Counts()
	return loadtest.Traffic{Requests: c.Requests, Sent: c.Sent, Received: c.Received, Wire: c.Wire, Refused: c.Refused}
}
