package archive

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// spoolStep is how many bytes are unpacked between two looks at the room.
	spoolStep = 64 << 20
	// spoolLeave is what stays free where an archive is unpacked, in bytes: a bomb
	// ends before the host's other programs find the disk full.
	spoolLeave = 512 << 20
)

// How compressed files begin. Docker's and podman's save write tars; gzip is what
// people put around one.
var (
	magicGzip  = []byte{0x1f, 0x8b}
	magicBzip2 = []byte("BZh")
	magicZstd  = []byte{0x28, 0xb5, 0x2f, 0xfd}
	magicXZ    = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
)

// openStream takes f over: a tar in a file is read where it lies; what is compressed,
// or comes through a pipe, goes into a file of its own first, which has no name.
func openStream(ctx context.Context, f *os.File, temp string) (tree, error) {
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	head := make([]byte, 6)
	n, err := io.ReadFull(f, head)
	head = head[:n]
	if n == 0 {
		f.Close()
		if err == io.EOF {
			err = fmt.Errorf("%w: it is empty", ErrNoImages)
		}
		return nil, err
	}
	for magic, tool := range map[string]string{string(magicZstd): "zstd -dc", string(magicXZ): "xz -dc"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			f.Close()
			return nil, fmt.Errorf("%w: it is compressed in a way that is not read here; type %s FILE | registryd import -", ErrNoImages, tool)
		}
	}
	plain := !bytes.HasPrefix(head, magicGzip) && !bytes.HasPrefix(head, magicBzip2)
	if plain && info.Mode().IsRegular() {
		return indexTar(ctx, f)
	}
	defer f.Close()
	r, err := unpacked(io.MultiReader(bytes.NewReader(head), f), head)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	spooled, err := spool(ctx, r, temp)
	if err != nil {
		return nil, err
	}
	return indexTar(ctx, spooled)
}

func unpacked(r io.Reader, head []byte) (io.Reader, error) {
	switch {
	case bytes.HasPrefix(head, magicGzip):
		return gzip.NewReader(r)
	case bytes.HasPrefix(head, magicBzip2):
		return bzip2.NewReader(r), nil
	}
	return r, nil
}

// spool copies r into a file that is gone when it is closed, or when this process is.
func spool(ctx context.Context, r io.Reader, temp string) (*os.File, error) {
	f, err := os.CreateTemp(temp, "registryd-import-*")
	if err != nil {
		return nil, err
	}
	err = os.Remove(f.Name())
	for err == nil {
		if err = ctx.Err(); err != nil {
			break
		}
		if err = room(f); err != nil {
			break
		}
		var n int64
		if n, err = io.CopyN(f, r, spoolStep); err == io.EOF && n < spoolStep {
			return f, nil
		}
	}
	f.Close()
	return nil, fmt.Errorf("unpacking it into a temporary file: %w; TMPDIR names another folder for that", err)
}

// room returns an error if the next step would leave too little.
func room(f *os.File) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return err
	}
	if free := int64(fs.Bavail) * int64(fs.Bsize); free < spoolLeave+spoolStep {
		return fmt.Errorf("only %d MiB are free there", free>>20)
	}
	return nil
}
