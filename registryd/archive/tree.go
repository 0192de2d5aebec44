package archive

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"hostlocal/manifest"
)

// A tree is the regular files of an archive, by their slash-separated names. A name
// that is not there, or is no plain file, is fs.ErrNotExist.
type tree interface {
	// size returns a file's length in bytes.
	size(name string) (int64, error)
	// open returns its bytes; the caller closes them, before the tree.
	open(name string) (*content, error)
	close() error
}

// A content is a file of an archive, open.
type content struct {
	*io.SectionReader
	file  *os.File // that the bytes lie in
	close func() error
}

// A stamp tells a file that was changed from one that was not, as far as its clock is
// fine enough.
type stamp struct {
	size int64
	mod  time.Time
}

func (c *content) stamp() (stamp, error) {
	info, err := c.file.Stat()
	if err != nil {
		return stamp{}, err
	}
	return stamp{info.Size(), info.ModTime()}, nil
}

// readSmall reads a document whole. What is larger than a manifest may be is none.
func readSmall(t tree, name string) ([]byte, error) {
	c, err := t.open(name)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if c.Size() > manifest.MaxSize {
		return nil, fmt.Errorf("%w: %.100q has %d bytes, more than the %d that are read of it", ErrArchive, name, c.Size(), manifest.MaxSize)
	}
	b := make([]byte, c.Size())
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, fmt.Errorf("%w: reading %.100q: %w", ErrArchive, name, err)
	}
	return b, nil
}

// A folder is a tree of plain files. Symbolic links are followed within it only.
type folder struct{ root *os.Root }

func openFolder(dir string) (tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return folder{root}, nil
}

func (f folder) close() error { return f.root.Close() }

func (f folder) size(name string) (int64, error) {
	info, err := f.root.Stat(name)
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%s is no plain file: %w", name, fs.ErrNotExist)
	}
	return info.Size(), nil
}

func (f folder) open(name string) (*content, error) {
	file, err := f.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not hold us
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no plain file: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return &content{io.NewSectionReader(file, 0, info.Size()), file, file.Close}, nil
}
