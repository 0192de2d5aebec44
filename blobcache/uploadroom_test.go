package blobcache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// leftFor has the uploads look as if nobody had been at them for d.
func (h *tester) leftFor(d time.Duration, uploads ...int) {
	h.Helper()
	when := time.Now().Add(-d)
	for _, n := range uploads {
		path := filepath.Join(h.dir, uploadsDir, uploadOf(n))
		if err := os.Chtimes(path, when, when); err != nil {
			h.Fatal(err)
		}
	}
}

func TestUploadsOfAKilledProcessAreCountedAndExpire(t *testing.T) {
	h, o := newTester(t, Options{Budget: 64 * mib}), newOrigin(4*mib, 8200)
	h.leaveUpload(1, o.bytes)
	h.leaveUpload(2, o.bytes[:mib])
	h.send(h.newUpload(3), o.bytes[:5])
	h.leftFor(time.Hour, 1, 3)
	h.Close()
	if err := os.WriteFile(filepath.Join(h.dir, markFile), []byte("40000000\n"), 0o644); err != nil {
		t.Fatal(err) // what a kill leaves
	}
	h.start()
	h.awaitScan()
	h.wantLedgerRight()
	h.wantUploads(3)
	if st := h.Stats(); st.Uploaded < 5*mib || st.Uploaded > 5*mib+16*block {
		t.Errorf("%d bytes of uploads", st.Uploaded)
	}
	open := h.openUpload(3)
	now := time.Now()
	for _, step := range []struct {
		idle time.Duration
		now  time.Time
		gone int
	}{{2 * time.Hour, now, 0}, {30 * time.Minute, now, 1}, {30 * time.Minute, now.Add(29 * time.Minute), 0}, {30 * time.Minute, now.Add(time.Hour), 1}} {
		if gone := h.ExpireUploads(step.idle, step.now); gone != step.gone {
			t.Errorf("%d went that were idle for %v, want %d", gone, step.idle, step.gone)
		}
		h.wantLedgerRight()
	}
	open.Close()
	h.wantUploads(1)
	if gone := h.ExpireUploads(0, now.Add(time.Hour)); gone != 1 {
		t.Error("a closed upload does not expire")
	}
	_, fixed, _ := h.ledger.sums()
	h.leaveUpload(4, o.bytes)
	h.ExpireUploads(0, now.Add(time.Hour))
	h.wantAccountsRight("all gone", fixed)
}

func TestUploadsOfAnotherBootGo(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(mib, 8210)
	h.leaveUpload(1, o.bytes)
	h.Close()
	boot := bootID
	defer func() { bootID = boot }()
	for _, id := range []string{"the boot after the power loss", ""} {
		bootID = func() string { return id }
		h.start()
		if _, err := h.OpenUpload(uploadOf(1)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("boot %q: %v", id, err)
		}
		h.wantUploads(0)
		h.awaitScan()
		h.wantLedgerRight()
		h.leaveUpload(1, o.bytes)
		h.Close()
	}
	h.start()
}

// TestUploadsStayWithinTheBudget: the limit is the oracle, beside pulls that fill the
// rest of it.
func TestUploadsStayWithinTheBudget(t *testing.T) {
	h := onTmpfs(t, "256m", Options{Budget: 64 * mib})
	h.awaitScan()
	var most atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			most.Store(max(most.Load(), h.taken()))
			select {
			case <-time.After(100 * time.Microsecond):
			case <-stop:
				return
			}
		}
	}()
	var wg sync.WaitGroup
	var pushed, refused atomic.Int64
	for client := range 4 {
		wg.Go(func() {
			for i := range 12 {
				o := newOrigin(int64(1+(i*5+client*3)%12)*mib+int64(i), uint64(8300+i*4+client))
				u, err := h.NewUpload(uploadOf(client*100 + i))
				if err != nil {
					t.Error(err)
					return
				}
				_, err = u.ReadFrom(bytes.NewReader(o.bytes))
				switch {
				case errors.Is(err, ErrNoRoom) && errors.Is(err, ErrDisk):
					refused.Add(1)
					u.Abort()
				case err != nil:
					t.Error(err)
				case i%4 == 3:
					u.Abort()
				case i == 10:
					u.Close()
				default:
					err := u.Commit(o.digest)
					switch {
					case errors.Is(err, ErrNoRoom): // for the blob's folder: all that is there is at work
						refused.Add(1)
					case err != nil:
						t.Error(err)
					default:
						pushed.Add(1)
					}
				}
			}
		})
	}
	wg.Go(func() {
		for i := range uint64(8) {
			o := newOrigin(8*mib, 8400+i)
			if n, err := h.follow(o); err != nil || n != 8*mib {
				t.Errorf("a pull: %d bytes, %v", n, err)
			}
		}
	})
	wg.Wait()
	close(stop)
	<-stopped
	h.await("the fills' end", func() bool { return len(h.Stats().Fills) == 0 })
	if most.Load() > 64*mib {
		t.Errorf("the folder took %d bytes, %d more than its budget", most.Load(), most.Load()-64*mib)
	}
	t.Logf("%d pushed, %d had no room", pushed.Load(), refused.Load())
	if pushed.Load() == 0 {
		t.Error("nothing was pushed")
	}
	h.wantLedgerRight()
	h.restart()
	h.awaitScan()
	h.wantLedgerRight()
}

func TestUploadWithoutRoomKeepsWhatWasThere(t *testing.T) {
	h, o := newTester(t, Options{Budget: 8 * mib}), newOrigin(12*mib, 8220)
	u := h.newUpload(1)
	n, err := u.ReadFrom(plain{bytes.NewReader(o.bytes)})
	if !errors.Is(err, ErrNoRoom) || !errors.Is(err, ErrDisk) {
		t.Fatal(err)
	}
	if most := uploadShare(8 * mib); n < most-mib || n > most || u.Size() != n {
		t.Errorf("%d bytes had room, the upload has %d", n, u.Size())
	}
	h.awaitScan()
	h.wantLedgerRight()
	if du := h.du(); du > 8*mib {
		t.Errorf("the folder takes %d bytes", du)
	}
	got := make([]byte, n)
	if _, err := u.ReadAtContext(t.Context(), got, 0); err != nil || !bytes.Equal(got, o.bytes[:n]) {
		t.Errorf("what had room is not what was sent: %v", err)
	}
	u.Abort()
	h.wantLedgerRight()
}

// TestDiskThatFillsUpUnderAnUpload is no room by another name: others took it.
func TestDiskThatFillsUpUnderAnUpload(t *testing.T) {
	h := onTmpfs(t, "32m", Options{Budget: 1 << 30})
	o := newOrigin(24*mib, 8230)
	u := h.newUpload(1)
	h.send(u, o.bytes[:4*mib+77])
	hog(t, filepath.Dir(h.dir))
	h.ledger.statfs()
	if n, err := u.Write(o.bytes[4*mib+77:]); !errors.Is(err, ErrNoRoom) || n != 0 {
		t.Errorf("%d bytes on a disk that is known to be full, %v", n, err)
	}
	h.ledger.mu.Lock()
	h.ledger.free, h.ledger.freeAt = 1<<30, time.Now().Add(time.Hour) // and on one that is not
	h.ledger.mu.Unlock()
	if _, err := u.ReadFrom(plain{bytes.NewReader(o.bytes[4*mib+77:])}); !errors.Is(err, ErrNoRoom) || !errors.Is(err, ErrDisk) {
		t.Errorf("on a full disk: %v", err)
	}
	os.Remove(filepath.Join(filepath.Dir(h.dir), "hog"))
	if fi, err := os.Stat(u.path); err != nil || fi.Size() != u.Size() {
		t.Errorf("the file has not the upload's %d bytes: %v", u.Size(), err)
	}
	h.awaitScan()
	u.Close() // and what was reserved for nothing is given back
	h.wantLedgerRight()
	u = h.openUpload(1)
	h.send(u, o.bytes[u.Size():])
	h.wantDigest(u, o.digest)
	if err := u.Commit(o.digest); err != nil {
		t.Fatal(err)
	}
	h.wantPresent(o)
}

// TestUploadThatCannotBeRemovedStaysCounted, and goes when it can be.
func TestUploadThatCannotBeRemovedStaysCounted(t *testing.T) {
	h := onTmpfs(t, "32m", Options{Budget: 16 * mib})
	h.awaitScan()
	o := newOrigin(mib, 8240)
	u := h.newUpload(1)
	h.send(u, o.bytes)
	if err := unix.Mount(u.path, u.path, "", unix.MS_BIND, ""); err != nil { // it can neither be renamed nor removed
		t.Fatal(err)
	}
	if err := u.Commit(o.digest); !errors.Is(err, ErrDisk) {
		t.Errorf("committed: %v", err)
	}
	h.wantUploads(1)
	h.wantLedgerRight()
	later := time.Now().Add(2 * time.Hour)
	if gone := h.ExpireUploads(time.Hour, later); gone != 0 {
		t.Errorf("%d went that cannot be removed", gone)
	}
	if err := unix.Unmount(u.path, 0); err != nil {
		t.Fatal(err)
	}
	h.wantLedgerRight()
	if gone := h.ExpireUploads(time.Hour, later); gone != 1 {
		t.Errorf("%d went", gone)
	}
	h.wantLedgerRight()
}

// TestUploadThatNobodyComesBackForMakesRoom: what is left for an hour goes before a
// blob does, and no sooner.
func TestUploadThatNobodyComesBackForMakesRoom(t *testing.T) {
	h, o := newTester(t, Options{Budget: 32 * mib}), newOrigin(10*mib, 8250)
	h.leaveUpload(1, o.bytes)
	h.leaveUpload(2, o.bytes)
	h.leftFor(uploadRest+time.Minute, 1)
	h.restart()
	h.awaitScan()
	kept := newOrigin(8*mib, 8251)
	got, err := h.pull(kept)
	h.wantRight(kept, got, err)
	h.wantPresent(kept)
	big := newOrigin(13*mib, 8252) // more than can be promised while both uploads are safe
	got, err = h.pull(big)
	h.wantRight(big, got, err)
	h.wantPresent(big)
	h.await("the fill's end", func() bool { return len(h.Stats().Fills) == 0 })
	if _, err := h.OpenUpload(uploadOf(1)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the upload that was left: %v", err)
	}
	h.openUpload(2).Close()
	if !h.Has(kept.digest) && h.Stats().Evicted == 0 {
		t.Error("the blob went, and was not counted")
	}
	h.wantLedgerRight()
	u := h.newUpload(3)
	if _, err := u.ReadFrom(plain{io.LimitReader(bytes.NewReader(make([]byte, 32*mib)), 32*mib)}); !errors.Is(err, ErrNoRoom) {
		t.Errorf("more than the budget: %v", err)
	}
	h.openUpload(2)
	h.wantLedgerRight()
}

// TestTenThousandUploadsDisturbNobody: those who begin and send nothing push out each
// other, and what somebody is at stays.
func TestTenThousandUploadsDisturbNobody(t *testing.T) {
	h, o := onTmpfs(t, "64m", Options{}), newOrigin(mib, 8260)
	open := h.newUpload(1)
	h.leaveUpload(2, o.bytes)
	begun := time.Now()
	for i := range 10_000 {
		u, err := h.NewUpload(uploadOf(100 + i))
		if err != nil {
			t.Fatal(err)
		}
		u.Close()
	}
	t.Logf("10,000 took %v", time.Since(begun))
	h.wantUploads(maxUploads)
	h.send(open, o.bytes)
	if err := open.Commit(o.digest); err != nil {
		t.Fatal(err)
	}
	h.openUpload(2).Close()
	h.awaitScan()
	h.wantLedgerRight()
}

func TestTooManyUploads(t *testing.T) {
	h := newTester(t, Options{})
	h.awaitScan()
	for i := range maxUploads {
		h.leaveUpload(i, []byte{1})
	}
	h.wantLedgerRight() // their names take room too
	if _, err := h.NewUpload(uploadOf(maxUploads)); !errors.Is(err, ErrTooManyUploads) {
		t.Fatalf("one more than there may be: %v", err)
	}
	h.restart()
	h.wantUploads(maxUploads)
	if _, err := h.NewUpload(uploadOf(maxUploads)); !errors.Is(err, ErrTooManyUploads) {
		t.Fatalf("after a restart: %v", err)
	}
	h.leftFor(2*uploadRest, 7)
	h.restart()
	h.leaveUpload(maxUploads, []byte{1}) // in place of the one that was left
	if _, err := h.OpenUpload(uploadOf(7)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the one that was left: %v", err)
	}
	h.openUpload(8).Abort()
	h.newUpload(maxUploads + 1)
}

// TestUploadsOfFewBytesKeepNobodyOut: who sends a byte to each of a thousand uploads
// keeps others out for a minute, and what has more bytes stays.
func TestUploadsOfFewBytesKeepNobodyOut(t *testing.T) {
	h := newTester(t, Options{})
	h.awaitScan()
	for i := range maxUploads {
		h.leaveUpload(i, make([]byte, pickSize(i)))
	}
	h.leftFor(fewRest+time.Second, 6)
	h.leftFor(2*fewRest, 7)
	h.leftFor(3*fewRest, 0) // the one of many bytes
	h.restart()
	for i := range 2 {
		h.newUpload(maxUploads + i)
	}
	if _, err := h.NewUpload(uploadOf(maxUploads + 2)); !errors.Is(err, ErrTooManyUploads) {
		t.Errorf("one that is young made room: %v", err)
	}
	for _, gone := range []int{6, 7} {
		if _, err := h.OpenUpload(uploadOf(gone)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("upload %d: %v", gone, err)
		}
	}
	h.openUpload(0).Close()
}

func pickSize(i int) int {
	if i == 0 {
		return fewBytes + 1
	}
	return 1
}

// TestUploadsLeaveRoomForBlobs: what clients leave behind is safe for an hour, and does
// not take all of the budget for as long.
func TestUploadsLeaveRoomForBlobs(t *testing.T) {
	h := newTester(t, Options{Budget: 32 * mib})
	h.awaitScan()
	h.leaveUpload(1, make([]byte, 20*mib))
	u := h.newUpload(2)
	n, err := u.ReadFrom(plain{bytes.NewReader(make([]byte, 10*mib))})
	if !errors.Is(err, ErrNoRoom) || n > 4*mib {
		t.Fatalf("%d bytes, %v", n, err)
	}
	o := newOrigin(6*mib, 8270)
	got, err := h.pull(o)
	h.wantRight(o, got, err)
	h.wantPresent(o)
	h.await("the fill's end", func() bool { return len(h.Stats().Fills) == 0 })
	h.leftFor(uploadRest+time.Minute, 1)
	u.Close()
	h.restart()
	h.awaitScan()
	if n, err := h.openUpload(2).ReadFrom(plain{bytes.NewReader(make([]byte, 10*mib))}); err != nil || n != 10*mib {
		t.Errorf("%d bytes, %v", n, err)
	}
	h.wantLedgerRight()
}

// TestSlowSendersShareLittleMemory counts what a thousand who send nothing hold.
func TestSlowSendersShareLittleMemory(t *testing.T) {
	h := newTester(t, Options{})
	const senders = wideUploads + 10
	var wg sync.WaitGroup
	var ends []*io.PipeWriter
	for i := range senders {
		r, w := io.Pipe()
		ends = append(ends, w)
		u := h.newUpload(i)
		wg.Go(func() {
			if _, err := u.ReadFrom(r); err != nil {
				t.Error(err)
			}
			u.Close()
		})
		if _, err := w.Write([]byte("a")); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(h.uploads.wide); n != wideUploads {
		t.Errorf("%d have wide buffers", n)
	}
	for _, w := range ends {
		fmt.Fprint(w, "b")
		w.Close()
	}
	wg.Wait()
	if n := len(h.uploads.wide); n != 0 {
		t.Errorf("%d still have wide buffers", n)
	}
	if u := h.openUpload(senders - 1); u.Size() != 2 {
		t.Errorf("%d bytes", u.Size())
	}
}
