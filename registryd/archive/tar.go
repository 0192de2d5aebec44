package archive

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

const (
	// maxEntries bounds what is remembered of a tar, some 150 bytes an entry: 30 MB.
	// docker save of a hundred images has some thousand.
	maxEntries = 200_000
	// maxEntryName bounds a name, in bytes; what is longer is none that an image uses.
	// The longest, a blob by its sha512, has 142.
	maxEntryName = 512
	// maxLinks bounds a chain of links. docker save makes chains of one.
	maxLinks = 8
)

// A tarTree is a tar that lies in a file: where each entry's bytes begin, found in one
// pass over the headers.
type tarTree struct {
	file    *os.File
	entries map[string]entry
}

// An entry is a file or a link of a tar.
type entry struct {
	off, size int64
	link      string // what it is a link to, cleaned; "" for a file
	bad       string // why it cannot be read
}

// indexTar reads the headers of a tar. It takes the file over, and closes it on an
// error.
func indexTar(ctx context.Context, f *os.File) (_ tree, err error) {
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	t := &tarTree{file: f, entries: map[string]entry{}}
	if err := t.index(ctx, io.NewSectionReader(f, 0, info.Size())); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *tarTree) index(ctx context.Context, r *io.SectionReader) error {
	headers := tar.NewReader(r) // it seeks over the bytes of an entry
	for ctx.Err() == nil {
		h, err := headers.Next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil && len(t.entries) == 0:
			return fmt.Errorf("%w: it is not a tar: %w", ErrNoImages, err)
		case err != nil:
			return fmt.Errorf("%w: after %d files: %w; was it copied whole?", ErrArchive, len(t.entries), err)
		case len(t.entries) >= maxEntries:
			return fmt.Errorf("%w: it has more than %d files", ErrArchive, maxEntries)
		}
		off, err := r.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		t.add(h, off, r.Size())
	}
	return ctx.Err()
}

// add remembers an entry whose bytes begin at off, of a tar of total bytes.
func (t *tarTree) add(h *tar.Header, off, total int64) {
	name, ok := clean(h.Name)
	if !ok {
		return
	}
	e := entry{off: off, size: h.Size}
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeSymlink:
		e.link, ok = clean(path.Join(path.Dir(name), h.Linkname))
		ok = ok && !path.IsAbs(h.Linkname)
	case tar.TypeLink:
		e.link, ok = clean(h.Linkname)
	case tar.TypeGNUSparse:
		e.bad = "is stored with holes"
	default:
		return // folders, devices
	}
	switch {
	case !ok:
		e.bad = "is a link that leads out of the archive"
	case sparse(h):
		e.bad = "is stored with holes"
	case e.link == "" && (e.size < 0 || e.size > total-off):
		e.bad = "is cut off"
	}
	if _, twice := t.entries[name]; twice { // readers disagree on which one counts
		e.bad = "stands twice in it"
	}
	t.entries[name] = e
}

// sparse reports whether the bytes do not lie in the tar as they are.
func sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// clean returns the one spelling of a name in an archive. One that leads elsewhere is
// none.
func clean(name string) (string, bool) {
	name = path.Clean(name)
	return name, len(name) <= maxEntryName && fs.ValidPath(name) && name != "."
}

// find follows links.
func (t *tarTree) find(name string) (entry, error) {
	at, ok := clean(name)
	for range maxLinks {
		var e entry
		if ok {
			e, ok = t.entries[at]
		}
		switch {
		case !ok:
			return entry{}, fmt.Errorf("%.100q is not in it: %w", name, fs.ErrNotExist)
		case e.bad != "":
			return entry{}, fmt.Errorf("%w: %.100q %s", ErrArchive, at, e.bad)
		case e.link == "":
			return e, nil
		}
		at = e.link
	}
	return entry{}, fmt.Errorf("%w: %.100q is a link to links", ErrArchive, name)
}

func (t *tarTree) size(name string) (int64, error) {
	e, err := t.find(name)
	return e.size, err
}

func (t *tarTree) open(name string) (*content, error) {
	e, err := t.find(name)
	if err != nil {
		return nil, err
	}
	return &content{io.NewSectionReader(t.file, e.off, e.size), t.file, func() error { return nil }}, nil
}

func (t *tarTree) close() error { return t.file.Close() }
