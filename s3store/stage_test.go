package s3store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hostlocal/manifest"
	"hostlocal/s3store"
	"hostlocal/s3store/s3test"
)

// stagePart is the size of the parts in these tests: S3's least.
const stagePart = 5 << 20

const stagedID = "0123456789abcdef0123456789abcdef"

// An arrival is a blob that comes in, up to where a test lets it.
type arrival struct {
	mu      sync.Mutex // guards the rest
	size    int64
	d       manifest.Digest
	err     error
	changed chan struct{}
	notes   []string
}

func newArrival() *arrival { return &arrival{changed: make(chan struct{})} }

func (a *arrival) set(size int64, d manifest.Digest, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.size, a.d, a.err = size, d, err
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *arrival) arriving(ctx context.Context, least int64) (int64, manifest.Digest, error) {
	for {
		a.mu.Lock()
		size, d, err, changed := a.size, a.d, a.err, a.changed
		a.mu.Unlock()
		if err != nil || size >= least || !d.IsZero() {
			return size, d, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, d, ctx.Err()
		}
	}
}

// stage runs StageBlob, beside the caller.
func (a *arrival) stage(t testing.TB, s *s3store.Store, r io.ReaderAt) <-chan error {
	done := make(chan error, 1)
	go func() {
		done <- s.StageBlob(t.Context(), "team/app", stagedID, r, a.arriving, func(note string) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.notes = append(a.notes, note)
		})
	}()
	return done
}

// stagedBlob is a Store that stages early, over a fake, and a blob of four parts and some
// bytes.
func stagedBlob(t testing.TB, client string) (*s3store.Store, *s3test.Server, []byte, manifest.Digest) {
	f := s3test.New(t)
	s := s3store.New(mustOpen(t, f.Config(client)), s3store.Options{StageFrom: stagePart})
	t.Cleanup(func() { s.Close() })
	body := fourParts()[:4*stagePart+5]
	return s, f, body, manifest.DigestOf(body)
}

// wantRemoved demands that by its notes all of a stage can be removed.
func (a *arrival) wantRemoved(t testing.TB, s *s3store.Store, f *s3test.Server) {
	t.Helper()
	if err := s.AbandonBlob(t.Context(), manifest.DigestOf([]byte("any")), a.notes); err != nil {
		t.Error(err)
	}
	for _, key := range f.Keys() {
		if strings.Contains(key, "/_uploads/") {
			t.Errorf("%s is left", key)
		}
	}
	if n := f.LooseParts(""); n > 0 {
		t.Errorf("%d parts are left; the notes were %q", n, a.notes)
	}
}

func dataKey(d manifest.Digest) string {
	return "docker/registry/v2/blobs/" + string(d.Algorithm()) + "/" + d.Hex()[:2] + "/" + d.Hex() + "/data"
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not in time: " + what)
		}
	}
}

func TestBlobIsStagedWhileItComesAndCopiedWhenItsDigestMatched(t *testing.T) {
	for _, client := range []string{"aws", "minio"} {
		t.Run(client, func(t *testing.T) {
			s, f, body, d := stagedBlob(t, client)
			for _, d := range []manifest.Digest{d, sha512Of(body)} {
				f.ResetCounts()
				a := newArrival()
				a.set(2*stagePart+1, manifest.Digest{}, nil)
				done := a.stage(t, s, bytes.NewReader(body))
				eventually(t, "two parts", func() bool { return f.LooseParts("docker/registry/v2/repositories/team/app/_uploads/") == 2 })
				a.set(int64(len(body)), manifest.Digest{}, nil)
				eventually(t, "all full parts", func() bool { return f.LooseParts("") == 4 })
				if len(a.notes) != 1 || f.Count("stat")+f.Count("complete_multipart") > 0 {
					t.Errorf("before the digest was known: %q, %d completed", a.notes, f.Count("complete_multipart"))
				}
				a.set(int64(len(body)), d, nil)
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(readBlob(t, s, d), body) {
					t.Error("the blob came back as another")
				}
				if p, c, h := f.Count("upload_part"), f.Count("copy_part"), f.Count("stat"); p != 5 || c != 1 || h != 1 {
					t.Errorf("%d parts, %d copies, %d looks", p, c, h)
				}
				a.wantRemoved(t, s, f)
			}
		})
	}
}

// What one exchange does, under the stage's key or at a copy, costs the stage at most: no
// wrong byte is visible, the bucket is not taken for one that fails or may only be read,
// and what is left can be removed.
func TestFailedStageLeavesNothingWrongAndTheBlobIsSentFromItsSource(t *testing.T) {
	faults := map[string]s3test.Fault{"403": {Status: 403}, "404": {Status: 404}, "500": {Status: 500}, "501": {Status: 501}, "dropped": {Drop: true}, "lost": {Lose: true}}
	for name, fault := range faults {
		for _, op := range []string{"create_multipart", "upload_part", "copy_part", "complete_multipart"} {
			for _, at := range []string{"stage", "blob"} {
				if at == "stage" == (op == "copy_part") {
					continue // copies are asked for under the blob's key, parts sent under the stage's
				}
				if at == "blob" && op == "upload_part" {
					continue
				}
				t.Run(fmt.Sprint(name, ", ", op, ", ", at), func(t *testing.T) {
					t.Parallel()
					s, f, body, d := stagedBlob(t, "minio")
					f.Fault(func(r *http.Request) *s3test.Fault {
						if s3test.Op(r) == op && strings.Contains(s3test.Key(r), "/_uploads/") == (at == "stage") {
							return &fault
						}
						return nil
					})
					a := newArrival()
					a.set(int64(len(body)), d, nil)
					err := <-a.stage(t, s, bytes.NewReader(body))
					if got, ok := f.Get(dataKey(d)); ok && !bytes.Equal(got, body) {
						t.Errorf("%d wrong bytes are there", len(got))
					} else if err == nil && !ok {
						t.Error("success, and no blob")
					}
					if _, ok := s.StageFrom(); ok == (err != nil) {
						t.Errorf("%v, and the next is staged: %v", err, ok)
					}
					if at == "blob" && op != "copy_part" {
						f.Up() // else it fails who sends it from its source, too
					}
					if s.ReadOnly() {
						t.Error("the bucket is taken for one that may only be read")
					}
					if err := s.PutBlob(t.Context(), d, int64(len(body)), bytes.NewReader(body)); err != nil {
						t.Error(err)
					}
					if got, _ := f.Get(dataKey(d)); !bytes.Equal(got, body) {
						t.Error("the blob is not there in the end")
					}
					f.Up()
					a.wantRemoved(t, s, f)
				})
			}
		}
	}
}

func TestStageWhoseUploadEndsLeavesNothing(t *testing.T) {
	s, f, body, d := stagedBlob(t, "minio")
	a := newArrival()
	a.set(3*stagePart, manifest.Digest{}, nil)
	done := a.stage(t, s, bytes.NewReader(body))
	eventually(t, "three parts", func() bool { return f.LooseParts("") == 3 })
	a.set(0, manifest.Digest{}, manifest.ErrMismatch)
	if err := <-done; !errors.Is(err, manifest.ErrMismatch) {
		t.Error(err)
	}
	if _, ok := f.Get(dataKey(d)); ok || f.Count("complete_multipart") > 0 {
		t.Error("it was completed")
	}
	if _, ok := s.StageFrom(); !ok {
		t.Error("that was the bucket's fault")
	}
	a.wantRemoved(t, s, f)
}

// zeros are as many bytes as one likes.
type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

// More has landed than is being sent when a part fails, or nobody wants the blob any more:
// the stage ends, with the part's error.
func TestStageThatIsBehindEnds(t *testing.T) {
	const behind = 12 * stagePart
	for _, leaves := range []bool{false, true} {
		s, f, _, _ := stagedBlob(t, "minio")
		ctx, cancel := context.WithCancel(t.Context())
		f.Fault(func(r *http.Request) *s3test.Fault {
			if s3test.Op(r) != "upload_part" {
				return nil
			}
			if leaves {
				cancel()
			}
			return &s3test.Fault{Status: 403}
		})
		a, done := newArrival(), make(chan error, 1)
		a.set(behind, manifest.Digest{}, nil)
		go func() { done <- s.StageBlob(ctx, "team/app", stagedID, zeros{}, a.arriving, func(string) {}) }()
		select {
		case err := <-done:
			if !leaves && !errors.Is(err, fs.ErrPermission) || err == nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("it goes on")
		}
		cancel()
		if _, ok := s.StageFrom(); ok != leaves {
			t.Errorf("the next is staged: %v", ok)
		}
	}
}

func TestStageOfABlobThatIsThereIsDropped(t *testing.T) {
	s, f, body, d := stagedBlob(t, "minio")
	f.Put(dataKey(d), body)
	a := newArrival()
	a.set(int64(len(body)), d, nil)
	if err := <-a.stage(t, s, bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	if n := f.Count("copy_part"); n > 0 {
		t.Errorf("%d copies", n)
	}
	a.wantRemoved(t, s, f)
}

// Another host's blob that comes while the copies run is left alone, and is success; one
// of another size is replaced.
func TestStageThatMeetsAnotherWriter(t *testing.T) {
	for name, other := range map[string]func(body []byte) []byte{"right": bytes.Clone, "wrong": func(b []byte) []byte { return b[1:] }} {
		t.Run(name, func(t *testing.T) {
			s, f, body, d := stagedBlob(t, "minio")
			f.Fault(func(r *http.Request) *s3test.Fault {
				if s3test.Op(r) == "copy_part" {
					f.Put(dataKey(d), other(body))
				}
				return nil
			})
			a := newArrival()
			a.set(int64(len(body)), d, nil)
			if err := <-a.stage(t, s, bytes.NewReader(body)); err != nil {
				t.Fatal(err)
			}
			if got, _ := f.Get(dataKey(d)); !bytes.Equal(got, body) {
				t.Error("the object is wrong")
			}
			a.wantRemoved(t, s, f)
		})
	}
}

func TestBucketThatDoesNotLetAStageBeRemovedGetsNoOther(t *testing.T) {
	s, f, body, d := stagedBlob(t, "minio")
	a := newArrival()
	a.set(int64(len(body)), d, nil)
	if err := <-a.stage(t, s, bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	f.Fault(s3test.Always("delete", s3test.Fault{Status: 403}))
	if err := s.AbandonBlob(t.Context(), d, a.notes); err == nil {
		t.Error("it was removed")
	}
	if _, ok := s.StageFrom(); ok {
		t.Error("another one would be left there")
	}
}

// The notes come from a file that anything may have happened to.
func TestNotesOfStagesNameNothingElse(t *testing.T) {
	s, f, body, d := stagedBlob(t, "minio")
	f.Put(dataKey(d), body)
	const link = "docker/registry/v2/repositories/team/app/_layers/link"
	f.Put(link, []byte("x"))
	for _, note := range []string{
		"stage " + dataKey(d) + " id", "stage " + link + " id", "stage  id", "stage", "staged " + dataKey(d),
		"stage docker/registry/v2/repositories/team/app/_uploads/../_layers/link id",
		"stage docker/registry/v2/repositories/_layers/_uploads/" + stagedID + "/data id",
	} {
		if err := s.AbandonBlob(t.Context(), d, []string{note}); err != nil {
			t.Errorf("%q: %v", note, err)
		}
	}
	if n := f.Count("delete"); n > 0 || len(f.Keys()) != 2 {
		t.Errorf("%d were deleted, %q are left", n, f.Keys())
	}
}

func TestOnlyLargeBlobsAreStaged(t *testing.T) {
	s := s3store.New(mustOpen(t, s3test.New(t).Config("aws")), s3store.Options{})
	defer s.Close()
	if from, ok := s.StageFrom(); !ok || from != 32<<20 {
		t.Errorf("from %d bytes on, %v", from, ok)
	}
	a := newArrival()
	if err := s.StageBlob(t.Context(), "team/app", "../x", bytes.NewReader(nil), a.arriving, func(string) {}); err == nil {
		t.Error("an upload of any name")
	}
}

// Real stores copy parts of a stage that is larger than one copy.
func TestServersTakeStages(t *testing.T) {
	eachStore(t, func(t *testing.T, open maker) {
		body := bytes.Repeat(fourParts()[:10<<20], 7)
		d := manifest.DigestOf(body)
		s := storeOver(t, open(t))
		a := newArrival()
		a.set(32<<20, manifest.Digest{}, nil)
		done := a.stage(t, s, bytes.NewReader(body))
		a.set(int64(len(body)), d, nil)
		err := <-done
		if folder := strings.Contains(t.Name(), "folder"); folder == (err == nil) {
			t.Fatal(err)
		}
		if err == nil && !bytes.Equal(readBlob(t, s, d), body) {
			t.Error("the blob came back as another")
		}
		if err := s.AbandonBlob(t.Context(), d, a.notes); err != nil {
			t.Error(err)
		}
		if err := s.AbandonBlob(t.Context(), d, a.notes); err != nil {
			t.Errorf("once more: %v", err)
		}
	})
}

// A stage is nobody's content: no repository, neither here nor for a stock registry.
func TestAStageMakesNoRepository(t *testing.T) {
	s, dir := folderStore(t)
	key := filepath.Join(dir, "docker/registry/v2/repositories/team/coming/_uploads", stagedID, "data")
	if err := os.MkdirAll(filepath.Dir(key), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, []byte("bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	storeImage(t, s, "team/app", "seed", "v1")
	if ok, err := s.Exists(t.Context(), "team/coming"); ok || err != nil {
		t.Error(ok, err)
	}
	if names, err := s.Repositories(t.Context(), "", math.MaxInt32); len(names) != 1 || err != nil {
		t.Error(names, err)
	}
	base := stockRegistry(t, dir)
	if _, body := ask(t, "GET", base+"_catalog", "", nil); string(bytes.TrimSpace(body)) != `{"repositories":["team/app"]}` {
		t.Errorf("the stock registry has %s", body)
	}
	if code := status(t, base+"team/coming/tags/list"); code != 404 {
		t.Errorf("the stock registry answers %d for its tags", code)
	}
}

// What a folder, and a bucket that lets nobody delete, would be left with is known before
// anybody pushes.
func TestTheProbeFindsOutWhoTakesNoStages(t *testing.T) {
	for name, fault := range map[string]func(*http.Request) *s3test.Fault{
		"delete": s3test.Always("delete", s3test.Fault{Status: 403}), "copy_part": s3test.Always("copy_part", s3test.Fault{Status: 501}), "": nil,
	} {
		f := s3test.New(t)
		f.Fault(fault)
		s := storeOver(t, mustOpen(t, f.Config("aws")))
		s.Start(t.Context())
		if name == "" {
			eventually(t, "the end of the probe", func() bool { return s.Status().ConditionalComplete != s3store.Unknown })
		}
		eventually(t, "what the probe finds of "+name, func() bool { _, ok := s.StageFrom(); return ok == (name == "") })
	}
	s, _ := folderStore(t)
	s.Start(t.Context())
	eventually(t, "a folder to be known", func() bool { _, ok := s.StageFrom(); return !ok })
}
