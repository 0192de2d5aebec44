package blobcache

import (
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hostlocal/manifest"
)

const (
	// maxUploads is how many uploads there are at once, open or not. A client sends
	// five or so layers together, so that is two hundred pushes; and all that somebody
	// who begins and never ends them gets is a thousand files and half a MiB of memory.
	maxUploads = 1024

	// uploadRest is how long an upload that nobody has open is safe from those who need
	// room. A client that broke off is back within minutes, or not at all, and its
	// bytes cannot be had from anywhere else; a blob that goes instead can.
	uploadRest = time.Hour

	// fewBytes is an upload that its client sends again in no time, and fewRest how long
	// one of so few bytes that nobody has open is safe from a new one, when there are as
	// many as there may be: who goes from one request to the next takes no minute.
	fewBytes = 64 << 10
	fewRest  = time.Minute
)

// uploadShare is what uploads may take of a budget: blobs that are pulled have the rest,
// also while clients leave large uploads behind that are safe for an hour.
func uploadShare(budget int64) int64 { return budget / 4 * 3 }

var (
	// ErrTooManyUploads is wrapped by NewUpload's error when there are as many
	// uploads as there may be.
	ErrTooManyUploads = errors.New("too many uploads at once")

	// ErrUploadBusy is wrapped by the error of opening an upload that somebody has
	// open.
	ErrUploadBusy = errors.New("somebody is at this upload")
)

// uploadName is what an upload may be called: a file name that is nobody else's in the
// folder, and cannot leave it.
var uploadName = regexp.MustCompile(`^[a-z0-9]{16,64}$`)

// uploads knows what lies in the folder of that name.
type uploads struct {
	wide chan struct{} // one for each who has a wide buffer

	mu  sync.Mutex // guards all; no I/O under it. Taken before an Upload's
	all map[string]*uploadEntry
}

// An uploadEntry is one upload's. While busy it is for one goroutine.
type uploadEntry struct {
	busy bool    // somebody has it open, is opening it, or removes it
	open *Upload // who counts what it takes while it is open
	resting
}

// resting is an upload that nobody has open.
type resting struct {
	blocks int64     // bytes of the ledger's
	size   int64     // bytes
	grew   time.Time // the file's mtime
	sum    hash.Hash // sha256 of the first hashed bytes; nil if nobody knows
	hashed int64
}

func newUploads() *uploads {
	return &uploads{wide: make(chan struct{}, wideUploads), all: make(map[string]*uploadEntry)}
}

func (c *Cache) uploadPath(name string) string { return filepath.Join(c.dir, uploadsDir, name) }

// NewUpload begins an upload under a name of the caller's choice, of 16 to 64 of a-z
// and 0-9: who knows it can go on with it. If there are as many as there may be, the
// oldest makes room that nobody has open and that is still empty, has few bytes and got
// none for a minute, or was left an hour ago; if there is none, the error wraps
// ErrTooManyUploads. That of a name in use wraps fs.ErrExist, or ErrUploadBusy.
func (c *Cache) NewUpload(name string) (*Upload, error) {
	if !uploadName.MatchString(name) {
		return nil, fmt.Errorf("an upload is named by 16 to 64 of a-z and 0-9, not %.80q: %w", name, fs.ErrInvalid)
	}
	if !c.enter() {
		return nil, uploadTrouble(errClosed)
	}
	defer c.work.Done()
	if err := c.enlist(name); err != nil {
		return nil, fmt.Errorf("beginning upload %s: %w", name, err)
	}
	path := c.uploadPath(name)
	const flags = os.O_RDWR | os.O_CREATE | os.O_EXCL | unix.O_NOFOLLOW
	f, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = c.makeUploads(); err == nil {
			f, err = os.OpenFile(path, flags, 0o600)
		}
	}
	if err != nil {
		c.uploads.forget(name)
		return nil, uploadTrouble(fmt.Errorf("beginning upload %s: %w", name, err))
	}
	c.dirs.grown(filepath.Dir(path))
	return c.uploads.opened(&Upload{
		c: c, name: name, path: path, f: f, sum: manifest.SHA256.New(), changed: make(chan struct{}),
	}), nil
}

// OpenUpload goes on with an upload that is there, of this process or an earlier one
// of this boot. The error wraps fs.ErrNotExist if there is none, ErrUploadBusy if
// somebody has it open.
func (c *Cache) OpenUpload(name string) (*Upload, error) {
	if !c.enter() {
		return nil, uploadTrouble(errClosed)
	}
	defer c.work.Done()
	e, err := c.uploads.claim(name)
	if err != nil {
		return nil, fmt.Errorf("upload %.80q: %w", name, err)
	}
	path := c.uploadPath(name)
	f, fi, err := openUploadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.uploads.forget(name)
		c.ledger.settle(e.blocks, 0)
		return nil, fmt.Errorf("upload %s: %w", name, err)
	case err != nil:
		c.uploads.rest(name, e.resting)
		return nil, uploadTrouble(fmt.Errorf("opening upload %s: %w", name, err))
	}
	u := &Upload{
		c: c, name: name, path: path, f: f, sum: e.sum, hashed: e.hashed,
		size: fi.Size(), taken: e.blocks, changed: make(chan struct{}),
	}
	if u.sum == nil || e.size != fi.Size() || !e.grew.Equal(fi.ModTime()) {
		u.sum, u.hashed = manifest.SHA256.New(), 0
	}
	return c.uploads.opened(u), nil
}

// openUploadFile opens what lies at path if it is a plain file; anything else, a link
// first of all, is none of ours.
func openUploadFile(path string) (*os.File, os.FileInfo, error) {
	const flags = os.O_RDWR | unix.O_NOFOLLOW | unix.O_NONBLOCK
	f, err := os.OpenFile(path, flags, 0)
	if errors.Is(err, fs.ErrPermission) {
		// A kill between the seal and the name left it read-only.
		if fi, lerr := os.Lstat(path); lerr == nil && fi.Mode().IsRegular() && os.Chmod(path, 0o600) == nil {
			f, err = os.OpenFile(path, flags, 0)
		}
	}
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EISDIR) {
		return nil, nil, fmt.Errorf("%s is no plain file: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is no plain file: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, fi, nil
}

// enlist enters a new upload, busy, and makes room for it among the others.
func (c *Cache) enlist(name string) error {
	for {
		if done, err := c.uploads.enlist(name); done {
			return err
		}
		other, e := c.uploads.claimOldest(true, time.Now())
		if e == nil || !c.removeUpload(other, e) {
			return ErrTooManyUploads
		}
		c.ledger.settle(e.blocks, 0)
	}
}

// enlist enters name, busy, or says why it cannot be; done is false if there are as
// many as there may be.
func (s *uploads) enlist(name string) (done bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.all[name]
	switch {
	case e != nil && e.busy:
		return true, ErrUploadBusy
	case e != nil:
		return true, fs.ErrExist
	case len(s.all) >= maxUploads:
		return false, nil
	}
	s.all[name] = &uploadEntry{busy: true}
	return true, nil
}

// left reports whether the upload has been nobody's for so long that it may go.
func (e *uploadEntry) left(now time.Time) bool { return !e.busy && now.Sub(e.grew) > uploadRest }

// claimOldest makes the upload busy that grew last before all others that were left,
// or that nobody has open and that are empty, or nearly, if these may go too. The entry
// is nil if there is none.
func (s *uploads) claimOldest(small bool, now time.Time) (name string, oldest *uploadEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, e := range s.all {
		may := e.left(now) || small && !e.busy && (e.size == 0 || e.size <= fewBytes && now.Sub(e.grew) > fewRest)
		if may && (oldest == nil || e.grew.Before(oldest.grew)) {
			name, oldest = n, e
		}
	}
	if oldest != nil {
		oldest.busy = true
	}
	return name, oldest
}

// claim makes an upload that nobody is at busy.
func (s *uploads) claim(name string) (*uploadEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.all[name]
	switch {
	case e == nil:
		return nil, fs.ErrNotExist
	case e.busy:
		return nil, ErrUploadBusy
	}
	e.busy = true
	return e, nil
}

// opened has u count what it takes.
func (s *uploads) opened(u *Upload) *Upload {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[u.name].open = u
	return u
}

// rest ends the business with an upload that stays.
func (s *uploads) rest(name string, r resting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[name] = &uploadEntry{resting: r}
}

// forget takes out an upload whose file is gone.
func (s *uploads) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, name)
}
