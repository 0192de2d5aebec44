package s3store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// smallObject bounds the files whose ETag is a hash of their content: those that
// are replaced under If-Match (leases, tags, fleet lists) are smaller, and hashing
// this much costs less than the write it protects.
const smallObject = 64 << 10

// etag derives an ETag that changes when the content does, from the file alone,
// because several daemons share it and NFS has no attributes of our own.
//
// A small file is hashed: inode numbers are reused at once and times tick every 4
// ms, so that two leases in quick succession would look alike. A large one goes
// by inode, size and modification time; it is a blob, and its digest decides.
func etag(file *os.File, info fs.FileInfo) (string, error) {
	if info.Size() <= smallObject {
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(file, 0, info.Size())); err != nil {
			return "", err
		}
		return hex.EncodeToString(h.Sum(nil)[:16]), nil
	}
	var ino uint64
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		ino = st.Ino
	}
	return fmt.Sprintf("%x-%x-%x", ino, info.Size(), info.ModTime().UnixNano()), nil
}

// A clock tells the file server's time. A lease's age must not depend on the
// clocks of hosts, and the server stamps files with its own: every write shows
// how far it is from ours.
type clock struct {
	offset atomic.Int64 // nanoseconds to add to the local time
}

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

// observe takes the modification time of a file that was written between from and
// to by the local clock. Anything between, a tick aside, means that the clocks agree.
func (c *clock) observe(from, to, modified time.Time) {
	const tick = 10 * time.Millisecond
	switch {
	case modified.Before(from.Add(-tick)):
		c.offset.Store(int64(modified.Sub(from)))
	case modified.After(to.Add(tick)):
		c.offset.Store(int64(modified.Sub(to)))
	default:
		c.offset.Store(0)
	}
}
