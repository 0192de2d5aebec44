package s3store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

func (f *folder) List(ctx context.Context, prefix, delimiter, after string, max int) (page Page, err error) {
	defer f.done(ctx, "list", prefix, time.Now(), &err)
	if err := checkList(prefix, delimiter, max); err != nil {
		return Page{}, err
	}
	r, err := os.OpenRoot(f.dir)
	if err != nil {
		return Page{}, fmt.Errorf("%w: %v", errNoRoot, err)
	}
	defer r.Close()
	l := lister{ctx: ctx, r: r, prefix: prefix, after: after, rollUp: delimiter != "", max: max}
	if err := l.walk(""); err != nil && !errors.Is(err, errPageFull) {
		return Page{}, err
	}
	return l.page, nil
}

// checkList refuses what not every driver can do.
func checkList(prefix, delimiter string, max int) error {
	if (delimiter != "" && delimiter != "/") || max < 1 || max > 1000 {
		return invalid("list", prefix, "delimiter %q, at most %d entries", delimiter, max)
	}
	return nil
}

var errPageFull = errors.New("the page is full")

// A lister walks the tree in the order of keys, and enters only folders that can
// hold something for the page.
type lister struct {
	ctx           context.Context
	r             *os.Root
	prefix, after string
	rollUp        bool
	max           int
	page          Page
	last          string // the newest entry
}

// walk lists below dir, which is "" or ends with a slash.
func (l *lister) walk(dir string) error {
	names, err := l.read(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := dir + name
		if len(path) > 1024 || path == tempDir+"/" {
			continue
		}
		if strings.HasSuffix(name, "/") {
			err = l.folder(path)
		} else {
			err = l.file(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) folder(path string) error {
	inside := strings.HasPrefix(path, l.prefix)
	switch {
	case !inside && !strings.HasPrefix(l.prefix, path):
		return nil // nothing below begins with the prefix
	case path <= l.after && (l.rollUp && inside && path != l.prefix || !strings.HasPrefix(l.after, path)):
		return nil // all below is before the page
	case l.rollUp && inside && path != l.prefix:
		if full, err := l.holdsFile(path); !full {
			return err
		}
		if err := l.room(path); err != nil {
			return err
		}
		l.page.Prefixes = append(l.page.Prefixes, path)
		return nil
	}
	return l.walk(path)
}

func (l *lister) file(path string) error {
	if !strings.HasPrefix(path, l.prefix) || path <= l.after {
		return nil
	}
	info, err := l.r.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return ignoreMiss(err)
	}
	if err := l.room(path); err != nil {
		return err
	}
	l.page.Objects = append(l.page.Objects, Object{Key: path, Size: info.Size(), Modified: info.ModTime()})
	return nil
}

// room makes place for one more entry, or ends the page.
func (l *lister) room(entry string) error {
	if len(l.page.Objects)+len(l.page.Prefixes) == l.max {
		l.page.Next = l.last
		return errPageFull
	}
	l.last = entry
	return nil
}

// holdsFile tells whether any object lies below: S3 knows no empty folders.
func (l *lister) holdsFile(dir string) (bool, error) {
	names, err := l.read(dir)
	for _, name := range names {
		found := !strings.HasSuffix(name, "/")
		if !found {
			found, err = l.holdsFile(dir + name)
		}
		if found || err != nil {
			return found, err
		}
	}
	return false, err
}

// read gives the names in dir as they sort in keys: folders with their slash.
func (l *lister) read(dir string) ([]string, error) {
	if err := l.ctx.Err(); err != nil {
		return nil, err
	}
	d, err := l.r.Open(cmp.Or(strings.TrimSuffix(dir, "/"), "."))
	if err != nil {
		return nil, ignoreMiss(err)
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		if names[i] = e.Name(); e.IsDir() {
			names[i] += "/"
		}
	}
	slices.Sort(names)
	return names, nil
}

// ignoreMiss: what was removed while we walked is not listed, that is all.
func ignoreMiss(err error) error {
	if err != nil && !errors.Is(err, fs.ErrNotExist) && fileStatus(err) != http.StatusNotFound {
		return err
	}
	return nil
}
