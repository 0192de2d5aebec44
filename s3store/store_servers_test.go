package s3store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hostlocal/manifest"
	"hostlocal/s3store"
	"hostlocal/s3store/s3test"
)

func TestServersKeepWhatTheStoreWrites(t *testing.T) {
	eachStore(t, func(t *testing.T, open maker) {
		s, ctx := storeOver(t, open(t)), t.Context()
		s.Start(ctx)
		for _, b := range [][]byte{nil, []byte("{}"), bytes.Repeat([]byte("0123456789"), 4<<20)} {
			for _, d := range []manifest.Digest{manifest.DigestOf(b), sha512Of(b)} {
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						if err := s.PutBlob(ctx, d, int64(len(b)), bytes.NewReader(b)); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if !bytes.Equal(readBlob(t, s, d), b) {
					t.Errorf("%d bytes came back as others", len(b))
				}
				r, _, size, err := s.OpenBlob(ctx, d, 0, 100) // also of an empty one
				if err != nil || size != int64(len(b)) {
					t.Fatal(size, err)
				}
				if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, b[:min(100, len(b))]) {
					t.Error(len(got), err)
				}
				r.Close()
			}
		}
		m := []byte(`{"schemaVersion":2}`)
		d := manifest.DigestOf(m)
		tags := []string{"1.2", "1.2-alpine", "1.2.3", "latest"}
		if err := s.PutManifest(ctx, "team/app", d, m); err != nil {
			t.Fatal(err)
		}
		for _, tag := range tags {
			if err := s.PutTag(ctx, "team/app", tag, d); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.LinkLayer(ctx, "team/app", d); err != nil {
			t.Fatal(err)
		}
		if age, err := s.LayerLink(ctx, "team/app", d); err != nil || age < 0 || age > 30*time.Second {
			t.Errorf("the link is %v old: %v", age, err)
		}
		if got, err := s.Tags(ctx, "team/app", "", 10); err != nil || !slices.Equal(got, tags) {
			t.Error(got, err)
		}
		if got, err := s.Tags(ctx, "team/app", "1.2", 2); err != nil || !slices.Equal(got, tags[1:3]) {
			t.Error(got, err)
		}
		if got, err := s.Repositories(ctx, "", 10); err != nil || !slices.Equal(got, []string{"team/app"}) {
			t.Error(got, err)
		}
		if ok, err := s.Exists(ctx, "team/app"); !ok || err != nil {
			t.Error(ok, err)
		}
		if _, err := s.Tag(ctx, "team/app", "v9"); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		s.Distrust(d)
		if err := s.PutManifest(ctx, "team/app", d, m); err != nil {
			t.Error(err)
		}
		waitFor(t, func() bool { return s.Status().ConditionalComplete != s3store.Unknown })
		if st := s.Status(); st.ConditionalPut != s3store.Yes || st.ConditionalComplete != s3store.Yes || st.Writable != s3store.Yes || st.Listable != s3store.Yes {
			t.Errorf("%+v", st)
		}
	})
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not come true within 20 s")
		}
	}
}

func overFake(t *testing.T) (*s3test.Server, *s3store.Store) {
	f := s3test.New(t)
	c := f.Config("minio")
	c.StallTimeout = 2 * time.Second
	b, err := s3store.OpenBucket(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return f, storeOver(t, b)
}

// A link's age is the store's word alone, whatever this host's clock says. 0.1 s.
func TestALinkIsAsOldAsTheStoreSays(t *testing.T) {
	f, s := overFake(t)
	d := manifest.DigestOf([]byte("a layer"))
	f.SetClock(-72 * time.Hour)
	if err := s.LinkLayer(t.Context(), "team/app", d); err != nil {
		t.Fatal(err)
	}
	for _, later := range []time.Duration{0, time.Hour, -time.Hour} {
		f.SetClock(later - 72*time.Hour)
		age, err := s.LayerLink(t.Context(), "team/app", d)
		if err != nil || age < later-time.Second || age > later+10*time.Second {
			t.Errorf("%v later it is %v old: %v", later, age, err)
		}
	}
	if _, err := s.LayerLink(t.Context(), "team/other", d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("where it is not: %v", err)
	}
}

func TestFaultsAtTheWireAreSurvived(t *testing.T) {
	f, s := overFake(t)
	body := bytes.Repeat([]byte("0123456789abcde"), 1<<20)
	d := manifest.DigestOf(body)
	put := func() error { return s.PutBlob(t.Context(), d, int64(len(body)), bytes.NewReader(body)) }
	for name, fault := range map[string]s3test.Fault{
		"503": {Status: 503, RetryAfter: "0"}, "drop": {Drop: true}, "lose": {Lose: true},
	} {
		for _, op := range []string{"stat", "create_multipart", "upload_part", "complete_multipart"} {
			f.Fault(s3test.Times(1, op, fault))
			if err := put(); err != nil {
				t.Errorf("%s of %s: %v", name, op, err)
			}
			f.Fault(nil)
			if !bytes.Equal(readBlob(t, s, d), body) {
				t.Errorf("%s of %s: other bytes", name, op)
			}
			forget(t, f, s, d)
		}
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	f.ResetCounts()
	f.Fault(s3test.Always("get", s3test.Fault{CutAfter: 5 << 20}))
	if !bytes.Equal(readBlob(t, s, d), body) {
		t.Error("a cut body does not go on rightly")
	}
	if n := f.Count(""); n > 4 {
		t.Errorf("%d requests for 15 MiB that are cut every 5", n)
	}
	f.Fault(s3test.Always("get", s3test.Fault{StallAfter: 1 << 20}))
	r, _, _, err := s.OpenBlob(t.Context(), d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	start := time.Now()
	if _, err := io.ReadAll(r); err == nil || time.Since(start) > 10*time.Second {
		t.Errorf("a stall: %v after %v", err, time.Since(start))
	}
}

// forget removes the blob behind the Store's back.
func forget(t *testing.T, f *s3test.Server, s *s3store.Store, d manifest.Digest) {
	t.Helper()
	b, err := s3store.OpenBucket(t.Context(), f.Config("aws"))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "docker/registry/v2/blobs/"+strings.Replace(d.String(), ":", "/"+d.Hex()[:2]+"/", 1)+"/data"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.StatBlob(t.Context(), d); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestBucketThatMayNotBeListedOrWritten(t *testing.T) {
	f, s := overFake(t)
	body := []byte("a layer")
	d := manifest.DigestOf(body)
	if err := s.PutBlob(t.Context(), d, int64(len(body)), bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	f.SetQuirks(s3test.Quirks{NoList: true, ReadOnly: true})
	s.Start(t.Context())
	waitFor(t, func() bool { return s.Status().Writable == s3store.No })
	if got := s.Status(); got.Listable != s3store.No {
		t.Errorf("%+v", got)
	}
	if !bytes.Equal(readBlob(t, s, d), body) {
		t.Error("other bytes")
	}
	if _, err := s.Tag(t.Context(), "team/app", "v1"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := s.LinkLayer(t.Context(), "team/app", d); !errors.Is(err, s3store.ErrReadOnly) {
		t.Error(err)
	}
	if _, err := s.Exists(t.Context(), "team/app"); !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
}

func TestRangesOfAHostAreBounded(t *testing.T) {
	f := s3test.New(t)
	s := storeOver(t, bucketOf(t, f)) // none of the hundred may pass for stalled
	body := bytes.Repeat([]byte("x"), 4<<20)
	d := manifest.DigestOf(body)
	if err := s.PutBlob(t.Context(), d, int64(len(body)), bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	f.SetModel(s3test.Model{FirstByte: 5 * time.Millisecond})
	f.ResetCounts()
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			r, _, _, err := s.OpenBlob(t.Context(), d, int64(i), -1)
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			io.Copy(io.Discard, r)
		})
	}
	wg.Wait()
	if peak := f.Peak(); peak > 32 || peak < 8 {
		t.Errorf("%d ranges at once", peak)
	}
}

// counted is a Bucket that counts the parts it is sent.
type counted struct {
	s3store.Bucket
	parts atomic.Int32
}

func (c *counted) UploadPart(ctx context.Context, key, id string, number int, body io.ReadSeeker, size int64) (string, error) {
	c.parts.Add(1)
	return c.Bucket.UploadPart(ctx, key, id, number, body, size)
}

// The ETag of a part is the MD5 of its bytes at each server, which is what an upload
// that goes on relies on; a folder's is not, and its parts are copied again.
func TestServersLetAnUploadGoOn(t *testing.T) {
	eachStore(t, func(t *testing.T, open maker) {
		body := fourParts()
		d := manifest.DigestOf(body)
		c := &counted{Bucket: open(t)}
		s := storeOver(t, c)
		var notes []string
		broken := &breaking{ReaderAt: bytes.NewReader(body), at: 2*part + 5, wait: make(chan struct{})}
		err := s.ResumeBlob(t.Context(), d, int64(len(body)), broken, nil, func(note string) {
			if notes = append(notes, note); len(notes) == 3 {
				close(broken.wait)
			}
		})
		if err == nil || len(notes) != 3 {
			t.Fatalf("%v, with the notes %q", err, notes)
		}
		if err := s.ResumeBlob(t.Context(), d, int64(len(body)), bytes.NewReader(body), notes, func(string) {}); err != nil {
			t.Fatal(err)
		}
		want := int32(4)
		if strings.Contains(t.Name(), "folder") {
			want = 6
		}
		if n := c.parts.Load(); n != want {
			t.Errorf("%d parts were sent, want %d", n, want)
		}
		if !bytes.Equal(readBlob(t, s, d), body) {
			t.Error("the blob came back as another")
		}
	})
}

// about makes a manifest that names a subject.
func about(subject manifest.Digest, n int) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.example","digest":%q,"size":2},"layers":[],"subject":{"digest":%q,"size":3},"annotations":{"n":"%d"}}`,
		manifest.OCIManifest, manifest.DigestOf([]byte("{}")), subject, n)
}

// pushAbout pushes one, as hosts do, or as a stock registry if stock.
func pushAbout(t testing.TB, s *s3store.Store, repo string, subject manifest.Digest, n int, stock bool) manifest.Digest {
	t.Helper()
	m, err := manifest.Parse(about(subject, n))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.PutManifest(t.Context(), repo, m.Digest, m.Body); err != nil {
		t.Fatal(err)
	}
	if stock {
		return m.Digest
	}
	if err := s.PutReferrer(t.Context(), repo, subject, m.AsReferrer()); err != nil {
		t.Fatal(err)
	}
	return m.Digest
}

// wantAbout demands that exactly these manifests are about subject, in any order.
func wantAbout(t testing.TB, s *s3store.Store, repo string, subject manifest.Digest, want ...manifest.Digest) {
	t.Helper()
	got, err := s.Referrers(t.Context(), repo, subject)
	if err != nil {
		t.Fatal(err)
	}
	found := map[manifest.Digest]bool{}
	for _, desc := range got {
		found[desc.Digest] = desc.ArtifactType == "application/vnd.example" && desc.Annotations["n"] != ""
	}
	for _, d := range want {
		if !found[d] {
			t.Errorf("%s is not among the referrers", d)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d referrers, want %d", len(got), len(want))
	}
}

func TestServersRemoveLinksAndListReferrers(t *testing.T) {
	eachStore(t, func(t *testing.T, open maker) {
		b := open(t)
		s, other, ctx := storeOver(t, b), storeOver(t, b), t.Context()
		m := []byte(`{"schemaVersion":2}`)
		d := manifest.DigestOf(m)
		var pushes sync.WaitGroup
		for i := range 10 {
			pushes.Go(func() {
				if err := []*s3store.Store{s, other}[i%2].PutManifest(ctx, "team/app", d, m); err != nil {
					t.Error(err)
				}
			})
		}
		pushes.Wait()
		for _, err := range []error{s.PutManifest(ctx, "team/app", d, m),
			s.PutTag(ctx, "team/app", "v1", d), s.PutTag(ctx, "team/app", "v1.1", d), s.PutTag(ctx, "team/app", "v2", d), s.LinkLayer(ctx, "team/app", d)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		stock := pushAbout(t, s, "team/app", d, 0, true)
		wantAbout(t, s, "team/app", d, stock)
		// From several hosts at once.
		var wg sync.WaitGroup
		ours := make([]manifest.Digest, 8)
		for i := range ours {
			wg.Go(func() { ours[i] = pushAbout(t, []*s3store.Store{s, other}[i%2], "team/app", d, i+1, false) })
		}
		wg.Wait()
		late := pushAbout(t, other, "team/app", d, 100, true)
		all := append([]manifest.Digest{stock, late}, ours...)
		wantAbout(t, s, "team/app", d, all...)
		wantAbout(t, other, "team/app", d, all...)
		if _, err := other.RemoveManifest(ctx, "team/app", stock); err != nil {
			t.Fatal(err)
		}
		wantAbout(t, s, "team/app", d, all[1:]...)

		if err := s.RemoveTag(ctx, "team/app", "v1"); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Tags(ctx, "team/app", "", 10); err != nil || !slices.Equal(got, []string{"v1.1", "v2"}) {
			t.Error(got, err)
		}
		if _, err := s.RemoveManifest(ctx, "team/app", d); err != nil {
			t.Fatal(err)
		}
		if err := s.RemoveLayer(ctx, "team/app", d); err != nil {
			t.Fatal(err)
		}
		_, again := s.RemoveManifest(ctx, "team/app", d)
		for _, err := range []error{s.RemoveTag(ctx, "team/app", "v2"), again, s.RemoveLayer(ctx, "team/app", d)} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		}
		if got, err := s.Tags(ctx, "team/app", "", 10); err != nil || len(got) != 0 {
			t.Error(got, err)
		}
		wantAbout(t, other, "team/app", d, all[1:]...)
		if err := s.PutManifest(ctx, "team/app", d, m); err != nil {
			t.Error(err)
		}
		if got, err := s.Manifest(ctx, "team/app", d); err != nil || !bytes.Equal(got, m) {
			t.Error(err)
		}
	})
}

// Each request of a push, of a list of referrers and of a removal meets each fault
// once.
func TestFaultsAtTheWireSpoilNoPushAndNoRemoval(t *testing.T) {
	for name, fault := range map[string]s3test.Fault{
		"503": {Status: 503, RetryAfter: "0"}, "409": {Status: 409}, "drop": {Drop: true}, "lose": {Lose: true},
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); eachRequestMeets(t, name, fault) })
	}
}

func eachRequestMeets(t *testing.T, name string, fault s3test.Fault) {
	f, s := overFake(t)
	ctx, m := t.Context(), []byte(`{"schemaVersion":2}`)
	d := manifest.DigestOf(m)
	for at := 1; ; at++ {
		var n, hit atomic.Int32
		f.Fault(func(*http.Request) *s3test.Fault {
			if n.Add(1) == int32(at) {
				hit.Store(1)
				return &fault
			}
			return nil
		})
		fresh := storeOver(t, bucketOf(t, f)) // with all its retries, and nothing in memory
		repo := fmt.Sprint("team/app", at)
		for i, err := range []error{fresh.PutManifest(ctx, repo, d, m), fresh.PutTag(ctx, repo, "v1", d)} {
			if err != nil {
				t.Errorf("%s at %d: push %d: %v", name, at, i, err)
			}
		}
		r := pushAbout(t, fresh, repo, d, at, false)
		wantAbout(t, fresh, repo, d, r)
		fresh.WithoutGrace()
		if _, err := fresh.RemoveManifest(ctx, repo, d); err != nil {
			t.Errorf("%s at %d: %v", name, at, err)
		}
		f.Fault(nil)
		wantAbout(t, s, repo, d, r)
		if _, err := s.Tag(ctx, repo, "v1"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s at %d: the tag: %v", name, at, err)
		}
		if got, err := s.Manifest(ctx, repo, d); err != nil || !bytes.Equal(got, m) {
			t.Errorf("%s at %d: %v", name, at, err)
		}
		forget(t, f, s, d)
		if hit.Load() == 0 {
			break
		}
		if at > 60 {
			t.Fatal("it does not end")
		}
	}
}

func bucketOf(t testing.TB, f *s3test.Server) s3store.Bucket { return mustOpen(t, f.Config("minio")) }

// Where the bucket ignores conditions a manifest that is pushed twice is written
// twice, with the same bytes; where it has no such conditions it is looked for first.
func TestManifestsArePushedToStoresWithoutConditions(t *testing.T) {
	f, s := overFake(t)
	f.SetQuirks(s3test.Quirks{IgnoreIfNoneMatch: true})
	s.Start(t.Context())
	waitFor(t, func() bool { return s.Status().ConditionalPut == s3store.No })
	m := []byte(`{"schemaVersion":2}`)
	d := manifest.DigestOf(m)
	for i, want := range []map[string]int{{"stat": 1, "put": 2}, {"stat": 1, "put": 1}} {
		f.ResetCounts()
		if err := s.PutManifest(t.Context(), "team/app", d, m); err != nil {
			t.Fatal(err)
		}
		if stat, put := f.Count("stat"), f.Count("put"); stat != want["stat"] || put != want["put"] {
			t.Errorf("push %d: %d looks and %d writes, want %v", i+1, stat, put, want)
		}
	}
	if got, err := s.Manifest(t.Context(), "team/app", d); err != nil || !bytes.Equal(got, m) {
		t.Error(err)
	}
}
