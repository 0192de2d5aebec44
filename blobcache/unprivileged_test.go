package blobcache

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// asNobody runs do as a daemon without privileges would: file modes bind it. It
// makes the cache's folder nobody's. The thread that it changes is not used again.
func (h *tester) asNobody(do func() error) error {
	h.Helper()
	const nobody = 65534
	if os.Geteuid() != 0 {
		return do()
	}
	for dir := h.dir; dir != filepath.Clean(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			h.Fatal(err)
		}
	}
	h.awaitScan()
	h.await("the mark", func() bool { return h.aheadNow() >= markStep/2 }) // it is a file that is renamed
	err := filepath.Walk(h.dir, func(path string, _ os.FileInfo, err error) error {
		return errors.Join(err, os.Lchown(path, nobody, nobody))
	})
	if err != nil {
		h.Fatal(err)
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		if _, err := unix.SetfsuidRetUid(nobody); err != nil {
			result <- err
			return
		}
		result <- do()
	}()
	return <-result
}

// truncateSealed changes the length of a published file and nothing else that
// tells; whoever is not root must be allowed to write first.
func truncateSealed(path string, size int64) error {
	return errors.Join(os.Chmod(path, 0o644), os.Truncate(path, size), os.Chmod(path, sealMode))
}

// TestFillKilledBetweenSealAndNameIsPickedUp is a kill while a whole partial is
// synced: it is read-only by then, which root does not notice and a service does.
func TestFillKilledBetweenSealAndNameIsPickedUp(t *testing.T) {
	h := newTester(t, Options{})
	o := newOrigin(mib, 4001)
	p, _, _, _, err := h.openPartial(o.digest)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.f.Write(o.bytes); err != nil {
		t.Fatal(err)
	}
	if err := p.startMap(mapHeader{Size: mib}, spans{{0, mib}}); err != nil {
		t.Fatal(err)
	}
	if err := seal(p.f); err != nil {
		t.Fatal(err)
	}
	p.close()
	h.restart()
	err = h.asNobody(func() error {
		p, _, landed, _, err := h.openPartial(o.digest)
		if err != nil {
			return err
		}
		defer p.close()
		if len(landed) != 1 || landed[0] != (span{0, mib}) {
			t.Errorf("landed are %v, want all", landed)
		}
		_, err = p.f.WriteAt(o.bytes[:1], 0)
		return err
	})
	if err != nil {
		t.Errorf("a partial that a kill left sealed: %v", err)
	}
}
