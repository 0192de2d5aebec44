package target

import (
	"io/fs"
	"path/filepath"
	"syscall"
	"time"
)

// diskShare bounds what looking at a cache folder costs: one part of so many of
// the time. With a hundred thousand files a look takes longer than a sample.
const diskShare = 20

// A disk is the last answer of how much lies under a folder.
type disk struct {
	bytes int64
	next  time.Time // before which nobody looks again
}

// under returns the bytes allocated under dir, as du counts, at the last look.
func (d *disk) under(dir string) int64 {
	began := time.Now()
	if dir == "" || began.Before(d.next) {
		return d.bytes
	}
	d.bytes = allocated(dir)
	d.next = began.Add(max(slowSample, diskShare*time.Since(began)))
	return d.bytes
}

// allocated sums up the blocks of all files under dir. What disappears while it
// looks counts as nothing.
func allocated(dir string) (sum int64) {
	filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := e.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				sum += st.Blocks * 512
			}
		}
		return nil
	})
	return sum
}
