package s3store

import (
	"io"
)

// A window is the part of a ReadSeeker that begins where it stood and has size
// bytes, and looks like the whole of one: both SDKs wind bodies back, minio-go to
// the absolute start, which would send a file from its first byte instead of the
// part that was meant.
type window struct {
	r    io.ReadSeeker
	base int64 // of r, where the window begins
	size int64
	at   int64 // within the window
}

func newWindow(r io.ReadSeeker, size int64) (*window, error) {
	base, err := r.Seek(0, io.SeekCurrent)
	return &window{r: r, base: base, size: size}, err
}

func (w *window) Read(p []byte) (int, error) {
	if w.at >= w.size {
		return 0, io.EOF
	}
	n, err := w.r.Read(p[:min(int64(len(p)), w.size-w.at)])
	if w.at += int64(n); err == io.EOF && w.at < w.size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (w *window) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += w.at
	case io.SeekEnd:
		offset += w.size
	}
	if _, err := w.r.Seek(w.base+offset, io.SeekStart); err != nil {
		return w.at, err
	}
	w.at = offset
	return offset, nil
}
