package blobcache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hostlocal/manifest"
)

// uploadOf is the name of the n-th upload of a test.
func uploadOf(n int) string { return fmt.Sprintf("upload%010d", n) }

func (h *tester) newUpload(n int) *Upload {
	h.Helper()
	u, err := h.NewUpload(uploadOf(n))
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(u.Abort)
	return u
}

func (h *tester) openUpload(n int) *Upload {
	h.Helper()
	u, err := h.OpenUpload(uploadOf(n))
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(u.Abort)
	return u
}

// send appends b.
func (h *tester) send(u *Upload, b []byte) {
	h.Helper()
	if n, err := u.ReadFrom(plain{bytes.NewReader(b)}); err != nil || n != int64(len(b)) {
		h.Fatalf("%d bytes of %d, %v", n, len(b), err)
	}
}

// plain is a reader and nothing more, as a request's body is.
type plain struct{ io.Reader }

// leaveUpload has upload n hold b and closes it.
func (h *tester) leaveUpload(n int, b []byte) {
	h.Helper()
	u := h.newUpload(n)
	h.send(u, b)
	if err := u.Close(); err != nil {
		h.Fatal(err)
	}
}

func (h *tester) wantDigest(u *Upload, want manifest.Digest) {
	h.Helper()
	if got, err := u.Digest(want.Algorithm()); err != nil || got != want {
		h.Fatalf("the digest is %s, want %s: %v", got, want, err)
	}
}

func (h *tester) wantUploads(n int) {
	h.Helper()
	files, err := os.ReadDir(filepath.Join(h.dir, uploadsDir))
	if err != nil {
		h.Fatal(err)
	}
	if there := h.Stats().Uploads; there != n || len(files) != n+1 { // and the boot
		h.Errorf("%d uploads are known and %d files there, want %d", there, len(files)-1, n)
	}
}

func sha512Of(b []byte) manifest.Digest {
	sum := manifest.SHA512.New()
	sum.Write(b)
	return manifest.SHA512.Sum(sum)
}

func TestCommittedUploadIsTheBlobItself(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(3*mib+5, 8000)
	u := h.newUpload(1)
	for _, piece := range [][]byte{o.bytes[:1], o.bytes[1:mib], o.bytes[mib:]} {
		h.send(u, piece)
	}
	sent, err := os.Stat(filepath.Join(h.dir, uploadsDir, uploadOf(1)))
	if err != nil {
		t.Fatal(err)
	}
	h.wantDigest(u, o.digest)
	if err := u.Commit(o.digest); err != nil {
		t.Fatal(err)
	}
	h.wantPresent(o)
	here, err := os.Stat(h.blobPath(o.digest))
	if err != nil || !os.SameFile(sent, here) || !sealed(here) {
		t.Errorf("the blob is another file, or not sealed: %v", err)
	}
	h.wantUploads(0)
	h.awaitScan()
	h.wantLedgerRight()
	if st := h.Stats(); st.Uploaded != 0 || st.Pinned != 0 {
		t.Errorf("%d bytes of uploads, %d are held", st.Uploaded, st.Pinned)
	}
	if _, err := u.Write([]byte("more")); err == nil {
		t.Error("a committed upload took more")
	}
}

func TestUploadGoesOnAfterARestart(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(5*mib, 8010)
	u := h.newUpload(1)
	h.send(u, o.bytes[:mib])
	h.restart() // with the upload open
	if _, err := u.Write(o.bytes[mib:]); !errors.Is(err, ErrDisk) {
		t.Errorf("an upload of a closed cache: %v", err)
	}
	h.awaitScan()
	h.wantLedgerRight()
	u = h.openUpload(1)
	if u.Size() != mib {
		t.Fatalf("%d bytes are left", u.Size())
	}
	h.wantDigest(u, manifest.DigestOf(o.bytes[:mib]))
	h.send(u, o.bytes[mib:3*mib])
	u.Close()
	h.wantLedgerRight()
	h.restart()
	u = h.openUpload(1)
	h.send(u, o.bytes[3*mib:])
	h.wantDigest(u, o.digest)
	if err := u.Commit(o.digest); err != nil {
		t.Fatal(err)
	}
	h.wantPresent(o)
	h.awaitScan()
	h.wantLedgerRight()
}

// TestUploadOpenedAgainIsNotReadAgain: docker sends a layer with one request and its
// digest with the next.
func TestUploadOpenedAgainIsNotReadAgain(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(mib, 8020)
	h.leaveUpload(1, o.bytes)
	u := h.openUpload(1)
	if u.hashed != mib {
		t.Errorf("%d bytes are hashed", u.hashed)
	}
	u.Close()
	path := filepath.Join(h.dir, uploadsDir, uploadOf(1))
	wrong := newOrigin(mib, 8021) // somebody is at the file
	if err := os.WriteFile(path, wrong.bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(path, time.Now(), time.Now().Add(time.Second))
	u = h.openUpload(1)
	h.wantDigest(u, wrong.digest)
}

func TestWrongUploadNeverBecomesPresent(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(mib, 8030)
	h.awaitScan()
	for i, spoil := range []func(u *Upload) manifest.Digest{
		func(*Upload) manifest.Digest { return newOrigin(mib, 8031).digest },
		func(*Upload) manifest.Digest { return sha512Of(o.bytes[1:]) },
		func(u *Upload) manifest.Digest { os.Truncate(u.path, 1000); return o.digest },
		func(u *Upload) manifest.Digest { u.Write([]byte("more")); return o.digest },
	} {
		u := h.newUpload(i)
		h.send(u, o.bytes)
		d := spoil(u)
		err := u.Commit(d)
		if !errors.Is(err, manifest.ErrMismatch) && !errors.Is(err, ErrDisk) || i != 2 && errors.Is(err, ErrDisk) {
			t.Errorf("upload %d: %v", i, err)
		}
		if h.Has(d) {
			t.Errorf("upload %d is present", i)
		}
		h.wantUploads(0)
	}
	h.wantLedgerRight()
}

func TestUploadByAnotherAlgorithm(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(2*mib, 8040)
	u := h.newUpload(1)
	h.send(u, o.bytes[:mib])
	h.wantDigest(u, sha512Of(o.bytes[:mib]))
	h.send(u, o.bytes[mib:])
	h.wantDigest(u, o.digest)
	o.digest = sha512Of(o.bytes)
	h.wantDigest(u, o.digest)
	if err := u.Commit(o.digest); err != nil {
		t.Fatal(err)
	}
	h.wantPresent(o)
}

func TestUploadOfWhatIsPresentJustGoes(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(mib, 8050)
	if err := h.Put(o.digest, bytes.NewReader(o.bytes), mib); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(h.blobPath(o.digest))
	u := h.newUpload(1)
	h.send(u, o.bytes)
	if err := u.Commit(o.digest); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(h.blobPath(o.digest)); err != nil || !os.SameFile(before, after) {
		t.Errorf("the blob was replaced: %v", err)
	}
	h.wantUploads(0)
	h.awaitScan()
	h.wantLedgerRight()
}

// TestEmptyUpload is a blob too: sha256:e3b0c442...
func TestEmptyUpload(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(0, 8060)
	u := h.newUpload(1)
	u.Close()
	u = h.openUpload(1)
	h.wantDigest(u, o.digest)
	if err := u.Commit(o.digest); err != nil {
		t.Fatal(err)
	}
	h.wantPresent(o)
}

func TestSenderThatBreaksOffKeepsWhatItSent(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(mib, 8070)
	u := h.newUpload(1)
	n, err := u.ReadFrom(io.MultiReader(bytes.NewReader(o.bytes[:700_001]), failing{}))
	if !errors.Is(err, errCut) || errors.Is(err, ErrDisk) || n != 700_001 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	u.Close()
	u = h.openUpload(1)
	h.send(u, o.bytes[u.Size():])
	h.wantDigest(u, o.digest)
}

func TestUploadIsOnePersonsAtATime(t *testing.T) {
	h := newTester(t, Options{})
	u := h.newUpload(1)
	if _, err := h.OpenUpload(uploadOf(1)); !errors.Is(err, ErrUploadBusy) {
		t.Errorf("opened twice: %v", err)
	}
	if _, err := h.NewUpload(uploadOf(1)); !errors.Is(err, ErrUploadBusy) {
		t.Errorf("begun twice: %v", err)
	}
	u.Close()
	if _, err := h.NewUpload(uploadOf(1)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("begun again: %v", err)
	}
	var wg sync.WaitGroup
	opened := make(chan *Upload, 8)
	for range 8 {
		wg.Go(func() {
			if u, err := h.OpenUpload(uploadOf(1)); err == nil {
				opened <- u
			} else if !errors.Is(err, ErrUploadBusy) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(opened) != 1 {
		t.Errorf("%d had it open at once", len(opened))
	}
	u = <-opened
	u.Abort()
	if _, err := h.OpenUpload(uploadOf(1)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of one that is gone: %v", err)
	}
	h.wantUploads(0)
}

func TestNamesThatUploadsCannotHave(t *testing.T) {
	h := newTester(t, Options{})
	for _, name := range []string{"", "boot", "short", "../../../../etc/passwd", strings.Repeat("a", 65), "UPLOAD0000000000", "upload/000000000", "upload0000000000\n"} {
		if _, err := h.NewUpload(name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("beginning %q: %v", name, err)
		}
		if _, err := h.OpenUpload(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("opening %q: %v", name, err)
		}
	}
}

// TestUploadIsNoLink: what a link leads to is neither read nor written, nor does it
// become a blob.
func TestUploadIsNoLink(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(1000, 8080)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, o.bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(h.dir, uploadsDir, uploadOf(1))
	replace := func(with func() error) {
		t.Helper()
		os.Remove(path)
		if err := with(); err != nil {
			t.Fatal(err)
		}
	}
	link := func() error { return os.Symlink(secret, path) }
	replace(link)
	if _, err := h.NewUpload(uploadOf(1)); err == nil {
		t.Error("begun over a link")
	}
	os.Remove(path)
	for _, with := range []func() error{link, func() error { return os.Mkdir(path, 0o700) }} {
		h.leaveUpload(1, o.bytes[:10])
		replace(with)
		if _, err := h.OpenUpload(uploadOf(1)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what is no file: %v", err)
		}
		os.Remove(path)
	}
	u := h.newUpload(1)
	h.send(u, o.bytes)
	replace(func() error { return os.WriteFile(path, []byte("something else"), 0o600) })
	if err := u.Commit(o.digest); err != nil {
		t.Errorf("an upload whose name is another file's: %v", err)
	}
	h.wantPresent(o)
	replace(link)
	h.restart()
	h.wantUploads(0)
	if b, err := os.ReadFile(secret); err != nil || !bytes.Equal(b, o.bytes) {
		t.Errorf("what the link leads to: %v", err)
	}
}

func TestUploadOutlivesItsFolders(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(mib, 8090)
	u := h.newUpload(1)
	h.send(u, o.bytes[:mib/2])
	if err := os.RemoveAll(h.dir); err != nil {
		t.Fatal(err)
	}
	h.send(u, o.bytes[mib/2:])
	if err := u.Commit(o.digest); err != nil {
		t.Fatal(err)
	}
	h.wantPresent(o)
	os.RemoveAll(h.dir)
	h.leaveUpload(2, o.bytes)
	h.restart()
	u = h.openUpload(2)
	h.wantDigest(u, o.digest)
}

// TestUploadKilledBetweenSealAndNameGoesOn: it is read-only by then, which root does
// not notice and a service does.
func TestUploadKilledBetweenSealAndNameGoesOn(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(mib, 8100)
	u := h.newUpload(1)
	h.send(u, o.bytes)
	if err := seal(u.f); err != nil {
		t.Fatal(err)
	}
	h.restart()
	err := h.asNobody(func() error {
		u, err := h.OpenUpload(uploadOf(1))
		if err == nil {
			_, err = u.Write([]byte("more"))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
