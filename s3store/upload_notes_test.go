package s3store_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"

	"hostlocal/manifest"
	"hostlocal/s3store"
	"hostlocal/s3store/s3test"
)

// resumer is a Store over a fake S3, a blob of four parts, and the notes of its
// upload.
type resumer struct {
	*testing.T
	*s3store.Store
	server *s3test.Server
	body   []byte
	d      manifest.Digest

	mu    sync.Mutex // guards notes and sent
	notes []string
	sent  []string // part numbers, as they were sent
}

const part = 16 << 20

// fourParts are the bytes of a blob of three parts and a little.
var fourParts = sync.OnceValue(func() []byte {
	b := make([]byte, 3*part+5)
	rand.NewChaCha8([32]byte{7}).Read(b)
	return b
})

func newResumer(t *testing.T) *resumer {
	s := s3test.New(t)
	r := &resumer{T: t, server: s}
	r.start()
	t.Cleanup(func() { r.Close() })
	r.body = fourParts()
	r.d = manifest.DigestOf(r.body)
	s.Fault(func(req *http.Request) *s3test.Fault {
		if s3test.Op(req) == "upload_part" {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.sent = append(r.sent, req.URL.Query().Get("partNumber"))
		}
		return nil
	})
	return r
}

func (r *resumer) start() {
	r.Store = s3store.New(mustOpen(r, r.server.Config("minio")), s3store.Options{Mirror: true})
}

// run resumes, and calls each after every note.
func (r *resumer) run(ctx context.Context, body []byte, each func(notes []string)) error {
	r.mu.Lock()
	earlier := slices.Clone(r.notes)
	r.sent = nil
	r.mu.Unlock()
	return r.ResumeBlob(ctx, r.d, int64(len(body)), bytes.NewReader(body), earlier, func(note string) {
		r.mu.Lock()
		if r.notes = append(r.notes, note); note == "" {
			r.notes = nil
		}
		notes := slices.Clone(r.notes)
		r.mu.Unlock()
		each(notes)
	})
}

// interrupted has two parts sent, or more if they were in flight, and returns how
// many the notes tell of.
func (r *resumer) interrupted(body []byte) int {
	r.Helper()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	err := r.run(ctx, body, func(notes []string) {
		if len(notes) == 3 {
			cancel()
		}
	})
	if err == nil || len(r.notes) < 3 {
		r.Fatalf("%v, with the notes %q", err, r.notes)
	}
	r.Close() // the server may come to a part late: it must not count among those sent later
	eventually(r, "the end of its connections", func() bool { return r.server.Open() == 0 })
	r.start()
	return len(r.notes) - 1
}

// whole resumes to the end, which must leave the right object and no upload.
func (r *resumer) whole() {
	r.Helper()
	if err := r.run(r.Context(), r.body, func([]string) {}); err != nil {
		r.Fatal(err)
	}
	key := "docker/registry/v2/blobs/sha256/" + r.d.Hex()[:2] + "/" + r.d.Hex() + "/data"
	if got, _ := r.server.Get(key); !bytes.Equal(got, r.body) {
		r.Error("the object is wrong, or not there")
	}
	if n := r.server.Uploads(); n > 0 || len(r.notes) > 0 {
		r.Errorf("%d uploads are left, and the notes %q", n, r.notes)
	}
}

func TestUploadGoesOnAfterARestart(t *testing.T) {
	r := newResumer(t)
	done := r.interrupted(r.body)
	r.whole()
	if len(r.sent) != 4-done {
		t.Errorf("%d of 4 parts were there, and parts %q were sent", done, r.sent)
	}
	if n := r.server.Count("create_multipart"); n != 1 {
		t.Errorf("%d uploads were begun", n)
	}
}

// The bytes that the first parts were made of never matched, and others came in
// their place while nobody was there to say so.
func TestPartsOfOtherBytesAreSentAgain(t *testing.T) {
	r := newResumer(t)
	wrong := slices.Clone(r.body)
	for off := 0; off < len(wrong); off += part {
		wrong[off] ^= 1
	}
	r.interrupted(wrong)
	r.whole()
	if len(r.sent) != 4 {
		t.Errorf("parts %q were sent, want all four", r.sent)
	}
}

func TestPartsThatCannotBeComparedAreSentAgain(t *testing.T) {
	r := newResumer(t)
	r.server.SetQuirks(s3test.Quirks{OpaqueETags: true})
	r.interrupted(r.body)
	r.whole()
	if len(r.sent) != 4 {
		t.Errorf("parts %q were sent, want all four", r.sent)
	}
}

func TestUploadThatTheStoreForgotBeginsAnew(t *testing.T) {
	r := newResumer(t)
	r.interrupted(r.body)
	r.server.ForgetUploads()
	r.whole()
	if n := r.server.Count("create_multipart"); n != 2 {
		t.Errorf("%d uploads were begun, want 2", n)
	}
}

func TestNotesThatAreNoneOfThisBlobAreNotFollowed(t *testing.T) {
	for _, notes := range [][]string{
		{"part 1 x"},
		{"upload 16777216"},
		{"upload 16777216 gone", "part 1 x", "part 9 x", "part -1 x", "", "\x00"},
		{"upload 5 gone", "part 1 x"},
		{"upload 99999999999999999999 x"},
	} {
		r := newResumer(t)
		r.body = r.body[:part]
		r.d, r.notes = manifest.DigestOf(r.body), notes
		r.whole()
	}
}

func TestUploadThatSomebodyElseFinishedIsRemoved(t *testing.T) {
	r := newResumer(t)
	r.interrupted(r.body)
	if err := r.PutBlob(t.Context(), r.d, int64(len(r.body)), bytes.NewReader(r.body)); err != nil {
		t.Fatal(err)
	}
	r.whole()
	if len(r.sent) > 0 {
		t.Errorf("parts %q were sent for a blob that was there", r.sent)
	}
}

func TestOutageAndRefusalKeepTheUpload(t *testing.T) {
	for name, f := range map[string]s3test.Fault{"outage": {Drop: true}, "refusal": {Status: http.StatusForbidden}} {
		t.Run(name, func(t *testing.T) {
			r := newResumer(t)
			r.server.Fault(s3test.Always("upload_part", f))
			if err := r.run(t.Context(), r.body, func([]string) {}); err == nil || len(r.notes) != 1 || r.server.Uploads() != 1 {
				t.Fatalf("%v, with the notes %q and %d uploads", err, r.notes, r.server.Uploads())
			}
		})
	}
}

// breaking is a source that breaks off at a byte, once it may.
type breaking struct {
	io.ReaderAt
	at   int64
	wait chan struct{}
}

func (b *breaking) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) <= b.at {
		return b.ReaderAt.ReadAt(p, off)
	}
	<-b.wait
	return 0, io.ErrUnexpectedEOF
}

// What fed the upload broke off, and goes on later. Had it been wrong nothing would
// be left (TestFailedSourceLeavesNothing).
func TestUploadGoesOnAfterItsSourceBrokeOff(t *testing.T) {
	r := newResumer(t)
	broken := &breaking{ReaderAt: bytes.NewReader(r.body), at: 2*part + 5, wait: make(chan struct{})}
	err := r.ResumeBlob(t.Context(), r.d, int64(len(r.body)), broken, nil, func(note string) {
		if r.notes = append(r.notes, note); len(r.notes) == 3 {
			close(broken.wait)
		}
	})
	if err == nil || len(r.notes) != 3 {
		t.Fatalf("%v, with the notes %q", err, r.notes)
	}
	r.sent = nil
	r.whole()
	if len(r.sent) != 2 {
		t.Errorf("2 of 4 parts were there, and parts %q were sent", r.sent)
	}
}

func TestAbandonedUploadIsRemoved(t *testing.T) {
	r := newResumer(t)
	r.interrupted(r.body)
	for range 2 { // the second has nothing to do
		if err := r.AbandonBlob(t.Context(), r.d, r.notes); err != nil {
			t.Fatal(err)
		}
		if n := r.server.Uploads(); n != 0 {
			t.Errorf("%d uploads are left", n)
		}
	}
	if err := r.AbandonBlob(t.Context(), r.d, nil); err != nil {
		t.Error(err)
	}
}

// Without notes nobody could ever remove the parts.
func TestUploadWithoutNotesIsRemovedWhenItFails(t *testing.T) {
	r := newResumer(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r.server.Fault(func(req *http.Request) *s3test.Fault {
		if s3test.Op(req) == "upload_part" {
			cancel()
		}
		return nil
	})
	if err := r.PutBlob(ctx, r.d, int64(len(r.body)), bytes.NewReader(r.body)); err == nil {
		t.Fatal("stored")
	}
	if n := r.server.Uploads(); n != 0 {
		t.Errorf("%d uploads are left", n)
	}
}
