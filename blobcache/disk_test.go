package blobcache

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"hostlocal/cmd/testdeps/need"
)

// onTmpfs is a tester whose folder is a file system of its own of size bytes.
func onTmpfs(t *testing.T, size string, opt Options) *tester {
	t.Helper()
	need.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("registryd-test", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	h := newTester(t, opt)
	h.Close()
	h.dir = filepath.Join(dir, "cache")
	h.start()
	t.Cleanup(func() { h.Close() }) // before the unmount
	return h
}

// taken is what the file system of onTmpfs holds.
func (h *tester) taken() int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(h.dir), &st); err != nil {
		h.Fatal(err)
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

func TestFullDiskPassesThroughAndRecovers(t *testing.T) {
	h := onTmpfs(t, "16m", Options{Budget: 1 << 30})
	hog := filepath.Join(filepath.Dir(h.dir), "hog")
	if err := os.WriteFile(hog, make([]byte, 15*mib), 0o644); err != nil {
		t.Fatal(err)
	}
	o := newOrigin(8*mib, 1000)
	for range 2 {
		got, err := h.pull(o)
		h.wantRight(o, got, err)
	}
	if h.Has(o.digest) || h.Stats().Passed == 0 {
		t.Fatal("a full disk took the blob")
	}
	os.Remove(hog)
	h.await("the disk's recovery", func() bool {
		got, err := h.pull(o)
		h.wantRight(o, got, err)
		return h.Has(o.digest)
	})
}

// TestDiskThatFillsUpUnderAFill has the disk run full between the bytes of one
// blob: whoever reads it must not notice.
func TestDiskThatFillsUpUnderAFill(t *testing.T) {
	h := onTmpfs(t, "64m", Options{Budget: 1 << 30})
	o := newOrigin(40*mib, 1001)
	hogged := false
	o.pace = func(off int64) {
		if off >= 10*mib && !hogged {
			hogged = true
			hog(t, filepath.Dir(h.dir))
		}
	}
	got, err := h.pull(o)
	h.wantRight(o, got, err)
	if !hogged || h.Has(o.digest) {
		t.Errorf("hogged: %v, cached: %v", hogged, h.Has(o.digest))
	}
}

func TestReadOnlyDiskPassesThroughAndRecovers(t *testing.T) {
	h := onTmpfs(t, "64m", Options{Budget: 32 * mib})
	kept, o := newOrigin(mib, 1002), newOrigin(8*mib, 1003)
	got, err := h.pull(kept)
	h.wantRight(kept, got, err)
	h.wantPresent(kept)
	dir := filepath.Dir(h.dir)
	h.await("nobody to have a file open for writing", func() bool {
		err = unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_BIND, "")
		return err != unix.EBUSY
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err = h.pull(o)
	h.wantRight(o, got, err)
	opens := kept.opens.Load()
	got, err = h.pull(kept)
	h.wantRight(kept, got, err)
	if kept.opens.Load() != opens {
		t.Error("a hit on a read-only disk asked the source")
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	got, err = h.pull(o)
	h.wantRight(o, got, err)
	h.wantPresent(o)
}

func TestKeepFreeShrinksTheCacheWhenOthersGrow(t *testing.T) {
	h := onTmpfs(t, "64m", Options{Budget: 1 << 30, KeepFree: 16 * mib})
	for i := range uint64(10) {
		o := newOrigin(8*mib, 1010+i)
		got, err := h.pull(o)
		h.wantRight(o, got, err)
		var st unix.Statfs_t
		if err := unix.Statfs(h.dir, &st); err != nil {
			t.Fatal(err)
		}
		if free := int64(st.Bavail) * st.Bsize; free < 15*mib {
			t.Errorf("%d bytes free after %d blobs", free, i+1)
		}
	}
	if h.Stats().Evicted == 0 {
		t.Error("nothing was evicted")
	}
}

// TestWrongBeginningFromTheDiskIsNotGluedToARightEnd: the disk fills up under a
// fill whose source sends wrong bytes at first and right ones when it is asked
// again. Nobody may end well with the two together.
func TestWrongBeginningFromTheDiskIsNotGluedToARightEnd(t *testing.T) {
	h := onTmpfs(t, "64m", Options{Budget: 1 << 30})
	o := newOrigin(40*mib, 1004)
	o.part, o.wrong = 1<<40, mib
	hogged, reading := false, make(chan struct{})
	o.pace = func(off int64) {
		if off >= 10*mib && !hogged {
			hogged = true
			<-reading // else the client has all from a pass, and right
			o.with(func(o *origin) { o.wrong = -1 })
			hog(t, filepath.Dir(h.dir))
		}
	}
	b, err := h.Get(t.Context(), o.digest, h.want(o, 0))
	if err != nil {
		t.Fatal(err)
	}
	client := &healer{heal: sync.OnceFunc(func() { close(reading) })}
	if err := b.CopyRange(t.Context(), client, 0, -1); err == nil {
		t.Fatalf("a pull of %d bytes, one of them wrong, ended well", client.buf.Len())
	}
	b.Close()
	o.with(func(o *origin) { o.pace = nil })
	got, err := h.pull(o)
	h.wantRight(o, got, err)
}

// hog fills the file system of dir.
func hog(t *testing.T, dir string) {
	f, err := os.Create(filepath.Join(dir, "hog"))
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	for buf := make([]byte, mib); err == nil; {
		_, err = f.Write(buf)
	}
}
