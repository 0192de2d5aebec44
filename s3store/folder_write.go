package s3store

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"syscall"
	"time"
)

func (f *folder) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, opt PutOptions) (tag string, err error) {
	defer f.done(ctx, "put", key, time.Now(), &err)
	r, err := f.root(key)
	if err != nil {
		return "", err
	}
	defer r.Close()
	if opt.IfNoneMatch {
		if _, err := r.Lstat(key); err == nil {
			return "", ErrPrecondition // before the bytes are written for nothing
		}
	}
	f.sweep.run(r, f.clock.now())
	t, err := newTemp(r, tempPut)
	if err != nil {
		return "", notAMiss(err)
	}
	defer t.discard()
	return f.publish(ctx, t, key, opt, func() error { return t.fill(ctx, body, size, opt.SHA256) })
}

// publish fills the temp, makes it durable and gives it its name, as the
// conditions allow. It is the one function that makes objects.
func (f *folder) publish(ctx context.Context, t *temp, key string, opt PutOptions, fill func() error) (string, error) {
	start := time.Now()
	if err := fill(); err != nil {
		return "", notAMiss(err)
	}
	if err := t.file.Sync(); err != nil {
		return "", notAMiss(err)
	}
	info, err := t.file.Stat()
	if err != nil {
		return "", notAMiss(err)
	}
	f.clock.observe(start, time.Now(), info.ModTime())
	tag, err := etag(t.file, info)
	if err != nil {
		return "", notAMiss(err)
	}
	if opt.IfNoneMatch {
		return tag, notAMiss(t.create(key))
	}
	unlock, err := lock(ctx, t.r, key)
	if err != nil {
		return "", notAMiss(err)
	}
	defer unlock()
	if opt.IfMatch != "" {
		file, old, err := f.look(t.r, key)
		if err != nil {
			return "", err
		}
		file.Close()
		if old.ETag != opt.IfMatch {
			return "", ErrPrecondition
		}
	}
	return tag, notAMiss(t.replace(key))
}

func (f *folder) Delete(ctx context.Context, key string) (err error) {
	defer f.done(ctx, "delete", key, time.Now(), &err)
	r, err := f.root(key)
	if err != nil {
		return err
	}
	defer r.Close()
	if info, err := r.Lstat(key); err != nil || info.IsDir() {
		if err == nil || fileStatus(err) == 404 {
			return nil
		}
		return err
	}
	unlock, err := lock(ctx, r, key)
	if err != nil {
		return notAMiss(err)
	}
	defer unlock()
	if err := r.Remove(key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return notAMiss(prune(r, path.Dir(key)))
}

// prune removes a folder that was emptied, and those above it, because S3 knows no
// empty folders and a stock registry takes one for a tag. Whoever is about to create
// in one makes it again.
func prune(r *os.Root, dir string) error {
	for ; dir != "."; dir = path.Dir(dir) {
		info, err := r.Lstat(dir)
		if err == nil && !info.IsDir() {
			break // a link that somebody made stays
		}
		if err == nil {
			err = r.Remove(dir)
		}
		if err != nil && fileStatus(err) != http.StatusNotFound {
			break // not empty, in most cases
		}
	}
	err := syncDir(r, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return prune(r, path.Dir(dir))
	}
	return err
}

// notAMiss keeps a missing folder on the way of a write from passing for a
// missing object.
func notAMiss(err error) error {
	if err != nil && fileStatus(err) == 404 {
		return fmt.Errorf("writing: %s", err)
	}
	return err
}

// lock takes the flock for key: one of 64, so that the files stay few and need
// never be removed (removing a lock's file is a race of its own). It is held for
// a look and a rename only. Waiting is by polling, since flock knows no context
// and a daemon that was stopped while holding it must not hang the others.
func lock(ctx context.Context, r *os.Root, key string) (unlock func(), err error) {
	h := fnv.New32a()
	io.WriteString(h, key)
	name := fmt.Sprintf("%s%02d", tempLock, h.Sum32()%64)
	file, err := r.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o666)
	if errors.Is(err, fs.ErrNotExist) {
		if err = r.Mkdir(tempDir, 0o777); err == nil || errors.Is(err, fs.ErrExist) {
			file, err = r.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o666)
		}
	}
	if err != nil {
		return nil, err
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil // closing releases it
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			file.Close()
			return nil, fmt.Errorf("locking: %w", err)
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}
