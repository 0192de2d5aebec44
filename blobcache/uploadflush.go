package blobcache

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// flushStep is after how many bytes the disk is given what came: 16 MiB are a tenth of
// a second of an ordinary one, and less than that is not worth it.
const flushStep = 16 << 20

// A flusher has the disk take the bytes while more of them come. Commit waits until it
// has them all, and with Commit the sender: without this it would begin only then.
type flusher struct {
	given   atomic.Int64 // bytes that the disk was given
	running atomic.Bool
}

// flush gives the disk what was written, behind the caller. What goes wrong shows when
// the file is synced. The caller is within the cache's work.
func (u *Upload) flush() {
	if u.Size()-u.flushed.given.Load() < flushStep || u.flushed.running.Swap(true) {
		return
	}
	conn, err := u.f.SyscallConn()
	if err != nil {
		return // it has ended
	}
	u.c.work.Go(func() {
		defer u.flushed.running.Store(false)
		for {
			from, to := u.flushed.given.Load(), u.Size()
			if to-from < flushStep || u.c.ctx.Err() != nil {
				return
			}
			// It blocks for as long as the disk has more to do than it can hold.
			if conn.Control(func(fd uintptr) { _ = unix.SyncFileRange(int(fd), from, to-from, unix.SYNC_FILE_RANGE_WRITE) }) != nil {
				return
			}
			u.flushed.given.Store(to)
		}
	})
}
