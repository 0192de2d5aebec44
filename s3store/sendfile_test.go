package s3store_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"hostlocal/manifest"
	"hostlocal/s3store/s3test"
)

// lying is a blob in a file. It counts what is read of it.
type lying struct {
	*os.File
	read atomic.Int64 // bytes
}

func (l *lying) ReadAt(p []byte, off int64) (int, error) {
	n, err := l.File.ReadAt(p, off)
	l.read.Add(int64(n))
	return n, err
}

func (*lying) Await(off, n int64) error { return nil }

func inFile(t testing.TB, b []byte) *lying {
	t.Helper()
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &lying{File: f}
}

// What lies in a file is sent by the kernel: all but what shares a packet with the header
// of its request.
func TestPartsInAFileLeaveByTheKernel(t *testing.T) {
	eachStore(t, func(t *testing.T, open maker) {
		s := storeOver(t, open(t))
		for _, body := range [][]byte{fourParts(), fourParts()[part:][:1<<20]} {
			l, d := inFile(t, body), manifest.DigestOf(body)
			if err := s.PutBlob(t.Context(), d, int64(len(body)), l); err != nil {
				t.Fatal(err)
			}
			if n := l.read.Load(); n > 4*(64<<10+1) && !strings.Contains(t.Name(), "folder") {
				t.Errorf("%d bytes of %d were read", n, len(body))
			}
			if !bytes.Equal(readBlob(t, s, d), body) {
				t.Error("the blob came back as another")
			}
		}
	})
}

func TestStagedPartsLieInAFile(t *testing.T) {
	for _, client := range []string{"aws", "minio"} {
		t.Run(client, func(t *testing.T) {
			s, _, body, d := stagedBlob(t, client)
			a, l := newArrival(), inFile(t, body)
			done := a.stage(t, s, l)
			a.set(int64(len(body)), d, nil)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if n := l.read.Load(); n > int64(len(body))/20 {
				t.Errorf("%d bytes of %d were read", n, len(body))
			}
			if !bytes.Equal(readBlob(t, s, d), body) {
				t.Error("the blob came back as another")
			}
		})
	}
}

// Whose fault it is that a part does not leave is told as it is of other sources.
func TestAFileThatEndsEarlyIsTheSourcesFault(t *testing.T) {
	body := fourParts()
	d := manifest.DigestOf(body)
	eachClient(t, func(t *testing.T, f *s3test.Server, h *tester) {
		l := inFile(t, body) // which claims that all can be read
		if err := os.Truncate(l.Name(), int64(len(body))-part); err != nil {
			t.Fatal(err)
		}
		err := storeOver(t, h.b).PutBlob(t.Context(), d, int64(len(body)), l)
		if err == nil || !strings.Contains(err.Error(), "of the source") {
			t.Errorf("got %v", err)
		}
		if n := f.Count("put") + f.Count("complete_multipart"); n > 0 {
			t.Error("what is not whole was completed")
		}
	})
}

func TestAStoreThatTakesNothingOfAFileIsNoticed(t *testing.T) {
	body := fourParts()
	d := manifest.DigestOf(body)
	eachClient(t, func(t *testing.T, f *s3test.Server, h *tester) {
		f.Fault(s3test.Always("upload_part", s3test.Fault{StallBefore: true}))
		err := storeOver(t, h.b).PutBlob(h.ctx, d, int64(len(body)), inFile(t, body))
		if err == nil || !strings.Contains(err.Error(), "the store stalled") || h.ctx.Err() != nil {
			t.Errorf("got %v", err)
		}
	})
}
