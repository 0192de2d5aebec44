package s3store_test

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"

	"hostlocal/manifest"
	"hostlocal/s3store"
	"hostlocal/s3store/s3test"
)

// inOrder is a source whose bytes come in their order. It counts what is read of it,
// and fails from a byte on.
type inOrder struct {
	b      []byte
	read   atomic.Int64
	broken int64 // 0: nowhere
}

var errBroken = errors.New("the disk is broken")

func (s *inOrder) Await(off, n int64) error {
	_, err := s.ReadAt(make([]byte, 1), off+n-1)
	return err
}

func (s *inOrder) ReadAt(p []byte, off int64) (int, error) {
	if s.broken > 0 && len(p) > 1 && off+int64(len(p)) > s.broken {
		return 0, errBroken
	}
	n, err := bytes.NewReader(s.b).ReadAt(p, off)
	s.read.Add(int64(n))
	return n, err
}

func TestSourceThatIsAwaitedIsReadOnce(t *testing.T) {
	f := s3test.New(t)
	s := s3store.New(mustOpen(t, f.Config("minio")), s3store.Options{})
	defer s.Close()
	for _, size := range []int{1 << 20, 40 << 20} {
		src := &inOrder{b: make([]byte, size)}
		d := manifest.DigestOf(src.b)
		if err := s.PutBlob(t.Context(), d, int64(size), src); err != nil {
			t.Fatal(err)
		}
		if extra := src.read.Load() - int64(size); extra > 16 {
			t.Errorf("%d bytes too many were read of %d", extra, size)
		}
	}
}

// A disk that fails while its bytes are sent says nothing about the bucket: it is not
// tried again, and the bucket is not left alone for it.
func TestSourceThatFailsWhileSentIsNotTheBucketsFailure(t *testing.T) {
	for _, client := range []string{"aws", "minio"} {
		for _, size := range []int64{1 << 20, 40 << 20} {
			f := s3test.New(t)
			s := s3store.New(mustOpen(t, f.Config(client)), s3store.Options{})
			src := &inOrder{b: make([]byte, size), broken: size / 2}
			err := s.PutBlob(t.Context(), manifest.DigestOf(src.b), size, src)
			if !errors.Is(err, errBroken) {
				t.Errorf("%s, %d bytes: %v", client, size, err)
			}
			if st := s.Status(); st.Failures > 0 {
				t.Errorf("%s, %d bytes: the bucket is said to have failed: %s", client, size, st.LastError)
			}
			s.Close()
		}
	}
}
