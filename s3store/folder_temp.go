package s3store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// tempDir is our corner of the folder: unfinished writes, uploads and locks. It
// lies beside the layout and never inside, on the same file system for link(2).
const tempDir = ".registryd-tmp"

// What lies there. Only files with the first two names are ever swept.
const (
	tempPut    = tempDir + "/put-"
	tempUpload = tempDir + "/upload-"
	tempLock   = tempDir + "/lock-"
)

var errBody = errors.New("the body is not what was announced")

// A temp is a file on its way to become an object: fill it, then create or
// replace, and discard in any case.
type temp struct {
	r    *os.Root
	name string
	file *os.File
}

// newTemp makes the file under base plus a random name.
func newTemp(r *os.Root, base string) (*temp, error) {
	name := base + randomID()
	open := func() (*os.File, error) { return r.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o666) }
	file, err := open()
	if errors.Is(err, fs.ErrNotExist) && base == tempPut {
		if err = r.Mkdir(tempDir, 0o777); err == nil || errors.Is(err, fs.ErrExist) {
			file, err = open()
		}
	}
	if err != nil {
		return nil, err
	}
	return &temp{r: r, name: name, file: file}, nil
}

// randomID is 32 hexadecimal digits, unique among all daemons.
func randomID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// fill copies exactly size bytes and checks them against the sha256, if there is one.
func (t *temp) fill(ctx context.Context, body io.Reader, size int64, sha string) error {
	var h hash.Hash
	var w io.Writer = t.file
	if sha != "" {
		h = sha256.New()
		w = io.MultiWriter(h, t.file)
	}
	for left := size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(w, body, min(left, copyStep))
		left -= n
		if err == io.EOF {
			return fmt.Errorf("%w: it ended %d bytes early", errBody, left)
		}
		if err != nil {
			return err
		}
	}
	if h != nil && hex.EncodeToString(h.Sum(nil)) != sha {
		return fmt.Errorf("%w: its sha256 is another", errBody)
	}
	return nil
}

// create publishes the file under key if the name is free, else fs.ErrExist.
func (t *temp) create(key string) error {
	return t.inDir(key, func() error {
		err := t.r.Link(t.name, key)
		if errors.Is(err, fs.ErrExist) {
			// NFS: the answer to a link that succeeded may be lost, and its repetition
			// says "exists". The count of names tells (open(2), O_EXCL).
			if info, serr := t.r.Lstat(t.name); serr == nil && info.Sys().(*syscall.Stat_t).Nlink == 2 {
				return nil
			}
		}
		return err
	})
}

// replace publishes the file under key, whatever was there.
func (t *temp) replace(key string) error {
	return t.inDir(key, func() error { return t.r.Rename(t.name, key) })
}

// discard drops the temp's own name; an object that was made of it stays.
func (t *temp) discard() {
	t.file.Close()
	t.r.Remove(t.name)
}

// maxPruned bounds how often a write makes its folders anew because somebody who
// deleted from them found them empty in between.
const maxPruned = 20

// inDir runs publish, makes the folders that key needs if they are missing, and has
// the name outlast a power loss.
func (t *temp) inDir(key string, publish func() error) error {
	err := publish()
	for range maxPruned {
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err = makeDirs(t.r, path.Dir(key)); err == nil {
			err = publish()
		}
	}
	if err != nil {
		return err
	}
	err = syncDir(t.r, path.Dir(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // what was published has been deleted since
	}
	return err
}

// makeDirs is MkdirAll whose result survives a power loss. A folder that another
// daemon has just made needs no sync of ours: journals commit in order, and the
// object's own folder is synced after it.
func makeDirs(r *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	err := r.Mkdir(dir, 0o777)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDirs(r, path.Dir(dir)); err != nil {
			return err
		}
		err = r.Mkdir(dir, 0o777)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(r, path.Dir(dir))
}

func syncDir(r *os.Root, dir string) error {
	d, err := r.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// A sweeper removes what crashed daemons left in tempDir.
type sweeper struct {
	last atomic.Int64 // unix nanoseconds of the last sweep; 0 before the first
}

const (
	// sweepAge is far beyond the longest upload, and leaves a daemon that was down
	// for a weekend its parts.
	sweepAge = 72 * time.Hour
	// sweepEvery bounds the cost: one reading of a small folder an hour.
	sweepEvery = time.Hour
)

// run sweeps if it is time. now is the file server's. Trouble is for the next sweep.
func (s *sweeper) run(r *os.Root, now time.Time) {
	last := s.last.Load()
	if now.UnixNano()-last < int64(sweepEvery) || !s.last.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	dir, err := r.Open(tempDir)
	if err != nil {
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		name = tempDir + "/" + name
		if !strings.HasPrefix(name, tempPut) && !strings.HasPrefix(name, tempUpload) {
			continue
		}
		if info, err := r.Lstat(name); err == nil && now.Sub(info.ModTime()) > sweepAge {
			r.RemoveAll(name)
		}
	}
}
