package s3store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// A folder is a Bucket of plain files: the object "a/b" is the file a/b under the
// root, so that a stock registry can serve the same folder.
//
// Several daemons may share one, over NFS too. Nothing is kept in memory but the
// clock's offset: the files are the state. What makes it safe:
//
//   - an object appears by link(2) or rename(2) of a finished, synced file. link is
//     the create-only one: it fails if the name is taken, on every host's view;
//   - a conditional replacement, and whatever could come between its look and its
//     rename, holds a flock, which Linux carries over NFS as a lock on the server;
//   - a file is never written to under its own name, so a descriptor that was
//     opened reads one version to its end.
//
// Every call opens the root afresh (one system call): a folder that was mounted,
// or came back, after the start is then the one that is used. A root that is not
// there is an outage and never a miss.
type folder struct {
	dir     string
	observe Observe
	clock   clock
	sweep   sweeper
}

// openFolder makes the root, and what is missing above it, if need be: on a new
// host not even the user's state folder is there.
func openFolder(dir string, observe Observe) (*folder, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("opening the folder store: %w", err)
	}
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("opening the folder store: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("opening the folder store: %s is not a folder", dir)
	}
	return &folder{dir: dir, observe: observe}, nil
}

func (f *folder) Stat(ctx context.Context, key string) (obj Object, err error) {
	defer f.done(ctx, "stat", key, time.Now(), &err)
	r, err := f.root(key)
	if err != nil {
		return Object{}, err
	}
	defer r.Close()
	file, obj, err := f.look(r, key)
	if err != nil {
		return Object{}, err
	}
	return obj, file.Close()
}

func (f *folder) Get(ctx context.Context, key string, off, n int64, ifMatch string) (body io.ReadCloser, obj Object, err error) {
	defer f.done(ctx, "get", key, time.Now(), &err)
	if err := checkRange(key, off, n); err != nil {
		return nil, Object{}, err
	}
	r, err := f.root(key)
	if err != nil {
		return nil, Object{}, err
	}
	defer r.Close()
	file, obj, err := f.look(r, key)
	if err != nil {
		return nil, Object{}, err
	}
	switch {
	case ifMatch != "" && ifMatch != obj.ETag:
		err = ErrPrecondition
	case off >= obj.Size && (off > 0 || n > 0): // as S3, which has no range of nothing
		err = errRange
	default:
		_, err = file.Seek(off, io.SeekStart)
	}
	if err != nil {
		file.Close()
		return nil, Object{}, err
	}
	if n < 0 || n > obj.Size-off {
		n = obj.Size - off
	}
	return &fileBody{ctx: ctx, file: file, left: n}, obj, nil
}

// look opens the object and describes it. Whatever is not a plain file is a miss.
func (f *folder) look(r *os.Root, key string) (*os.File, Object, error) {
	// O_NONBLOCK: somebody's FIFO in the folder must not hang us.
	file, err := r.OpenFile(key, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, Object{}, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	var tag string
	if err == nil {
		tag, err = etag(file, info)
	}
	if err != nil {
		file.Close()
		return nil, Object{}, err
	}
	return file, Object{Key: key, Size: info.Size(), ETag: tag, Modified: info.ModTime(), Date: f.clock.now()}, nil
}

// root opens the root for one call, after a look at the key.
func (f *folder) root(key string) (*os.Root, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	r, err := os.OpenRoot(f.dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errNoRoot, err)
	}
	return r, nil
}

var (
	errNoRoot = errors.New("the store's folder is not there")
	errRange  = errors.New("the range begins past the end of the object")
	errKey    = errors.New("no such key can exist")
)

// done turns what the file system said into an Error, and tells the observer.
func (f *folder) done(ctx context.Context, op, key string, start time.Time, err *error) {
	status := http.StatusOK
	if *err != nil {
		e, ok := errors.AsType[*Error](*err)
		if !ok {
			e = newError(ctx, op, key, fileStatus(*err), "", op != "get" && op != "stat", *err)
			*err = e
		}
		status = e.Status
	}
	if f.observe != nil {
		f.observe(op, status, time.Since(start))
	}
}

// fileStatus is the HTTP status that S3 would have sent.
func fileStatus(err error) int {
	switch {
	case errors.Is(err, errNoRoot):
		return http.StatusServiceUnavailable
	case errors.Is(err, ErrPrecondition), errors.Is(err, fs.ErrExist):
		return http.StatusPreconditionFailed
	case errors.Is(err, errRange):
		return http.StatusRequestedRangeNotSatisfiable
	case errors.Is(err, errKey), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, errBody), errors.Is(err, errPart):
		return http.StatusBadRequest
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		return http.StatusNotFound
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return http.StatusForbidden
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return http.StatusInsufficientStorage
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return 0
	}
	return http.StatusInternalServerError
}

// checkKey refuses what is not a relative path of plain components, what S3 would
// not take, and our own corner of the folder.
func checkKey(key string) error {
	bad := len(key) == 0 || len(key) > 1024 || strings.ContainsRune(key, 0) ||
		key == tempDir || strings.HasPrefix(key, tempDir+"/")
	for part := range strings.SplitSeq(key, "/") {
		bad = bad || part == "" || part == "." || part == ".."
	}
	if bad {
		return fmt.Errorf("%w: %.80q", errKey, key)
	}
	return nil
}

// checkRange refuses ranges that no driver can ask for.
func checkRange(key string, off, n int64) error {
	if off < 0 || n == 0 {
		return invalid("get", key, "a range of %d bytes at %d", n, off)
	}
	return nil
}

// A fileBody is a range of an open file. It gives way to sendfile and
// copy_file_range through WriteTo.
type fileBody struct {
	ctx  context.Context
	file *os.File
	left int64
}

// copyStep is how much WriteTo moves between two looks at the context: some
// milliseconds of a disk's time.
const copyStep = 8 << 20

func (b *fileBody) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.file.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // the file has shrunk under us
	}
	return n, err
}

func (b *fileBody) WriteTo(w io.Writer) (written int64, err error) {
	for b.left > 0 {
		if err := b.ctx.Err(); err != nil {
			return written, err
		}
		n, err := io.CopyN(w, b.file, min(b.left, copyStep))
		b.left -= n
		written += n
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func (b *fileBody) Close() error { return b.file.Close() }
