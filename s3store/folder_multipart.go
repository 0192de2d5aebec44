package s3store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"time"
)

// An upload is a folder below tempDir: a file "key" that says what it will be, and
// a file for each part. Parts are not synced: the object that is made of them is,
// and an upload is picked up again only within the boot that wrote it.

var errPart = errors.New("not a part of this upload")

func (f *folder) CreateMultipart(ctx context.Context, key string) (id string, err error) {
	defer f.done(ctx, "create_multipart", key, time.Now(), &err)
	r, err := f.root(key)
	if err != nil {
		return "", err
	}
	defer r.Close()
	f.sweep.run(r, f.clock.now())
	id = randomID()
	if err := r.MkdirAll(tempUpload+id, 0o777); err != nil {
		return "", notAMiss(err)
	}
	if err := r.WriteFile(tempUpload+id+"/key", []byte(key), 0o666); err != nil {
		return "", notAMiss(err)
	}
	return id, nil
}

func (f *folder) UploadPart(ctx context.Context, key, id string, number int, body io.ReadSeeker, size int64) (tag string, err error) {
	defer f.done(ctx, "upload_part", key, time.Now(), &err)
	r, dir, err := f.upload(key, id)
	if err != nil {
		return "", err
	}
	defer r.Close()
	if number < 1 || number > 10_000 {
		return "", fmt.Errorf("%w: number %d", errPart, number)
	}
	t, err := newTemp(r, dir+"/put-")
	if err != nil {
		return "", err
	}
	defer t.discard()
	if err := t.fill(ctx, body, size, ""); err != nil {
		return "", err
	}
	info, err := t.file.Stat()
	if err != nil {
		return "", err
	}
	if tag, err = etag(t.file, info); err != nil {
		return "", err
	}
	return tag, r.Rename(t.name, partName(dir, number))
}

// CopyPart is not there: what it spares is a network. Whoever has a file to send
// writes its parts, which is a copy too.
func (f *folder) CopyPart(ctx context.Context, key, id string, number int, src, ifMatch string, off, n int64) (tag string, err error) {
	defer f.done(ctx, "copy_part", key, time.Now(), &err)
	return "", &Error{Op: "copy_part", Key: key, Status: http.StatusNotImplemented}
}

func (f *folder) CompleteMultipart(ctx context.Context, key, id string, parts []Part, opt CompleteOptions) (tag string, err error) {
	defer f.done(ctx, "complete_multipart", key, time.Now(), &err)
	r, dir, err := f.upload(key, id)
	if err != nil {
		return "", err
	}
	defer r.Close()
	if len(parts) == 0 {
		return "", fmt.Errorf("%w: there are none", errPart)
	}
	if opt.IfNoneMatch {
		if _, err := r.Lstat(key); err == nil {
			return "", ErrPrecondition
		}
	}
	t, err := newTemp(r, tempPut)
	if err != nil {
		return "", notAMiss(err)
	}
	defer t.discard()
	tag, err = f.publish(ctx, t, key, PutOptions{IfNoneMatch: opt.IfNoneMatch}, func() error {
		last := 0
		for _, p := range parts {
			if p.Number <= last {
				return fmt.Errorf("%w: number %d after %d", errPart, p.Number, last)
			}
			last = p.Number
			if err := appendPart(ctx, t, partName(dir, p.Number), p.ETag); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	_ = removeParts(r, dir) // what is left of it, the sweep takes
	return tag, nil
}

func (f *folder) AbortMultipart(ctx context.Context, key, id string) (err error) {
	defer f.done(ctx, "abort_multipart", key, time.Now(), &err)
	r, dir, err := f.upload(key, id)
	if err != nil {
		return err
	}
	defer r.Close()
	return removeParts(r, dir)
}

// removeParts removes an upload's folder. The key goes last: without it nobody finds
// what a kill in between leaves.
func removeParts(r *os.Root, dir string) error {
	parts, err := fs.ReadDir(r.FS(), dir)
	for _, part := range parts {
		if part.Name() != "key" {
			err = errors.Join(err, r.RemoveAll(dir+"/"+part.Name()))
		}
	}
	if err != nil {
		return err
	}
	return r.RemoveAll(dir)
}

// upload opens the root and finds the upload's folder in it.
func (f *folder) upload(key, id string) (*os.Root, string, error) {
	if b, err := hex.DecodeString(id); err != nil || len(b) != 16 {
		return nil, "", fmt.Errorf("upload %.40q: %w", id, fs.ErrNotExist)
	}
	r, err := f.root(key)
	if err != nil {
		return nil, "", err
	}
	dir := tempUpload + id
	if of, err := r.ReadFile(dir + "/key"); err != nil || string(of) != key {
		r.Close()
		if err == nil {
			err = fmt.Errorf("upload %s is for another key: %w", id, fs.ErrNotExist)
		}
		return nil, "", err
	}
	return r, dir, nil
}

func partName(dir string, number int) string { return fmt.Sprintf("%s/part-%05d", dir, number) }

// appendPart copies inside the kernel (copy_file_range: on XFS and btrfs the
// blocks are shared, not copied).
func appendPart(ctx context.Context, t *temp, name, tag string) error {
	file, err := t.r.Open(name)
	if err != nil {
		return fmt.Errorf("%w: %w", errPart, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if have, err := etag(file, info); err != nil || have != tag {
		return fmt.Errorf("%w: its ETag is %s, not %s", errPart, have, tag)
	}
	body := fileBody{ctx: ctx, file: file, left: info.Size()}
	_, err = body.WriteTo(t.file)
	return err
}
