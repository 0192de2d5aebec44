package s3store

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"

	"hostlocal/manifest"
)

// maxNote bounds a note, in bytes. S3's upload ids have some 130 bytes, MinIO's
// 200, and no store is known that comes near this; one that did would be written
// to without notes.
const maxNote = 1024

// An upload is a blob's way into the bucket in parts, as far as it has got. The
// zero value is none. It is kept as notes, which are only ever added to:
//
//	upload 16777216 <id>    the size of each part but the last, in bytes
//	part 3 <etag>           a part that is there
type upload struct {
	id       string
	partSize int64
	parts    map[int]string // ETags of those that are there, by number
}

func (u upload) begun() string { return fmt.Sprintf("upload %d %s", u.partSize, u.id) }

func sentNote(number int, etag string) string { return fmt.Sprintf("part %d %s", number, etag) }

// readNotes is the upload that the notes tell of, of a blob of size bytes. They come
// from a file that a crash may have left in any state: what is no note is left out,
// and without a first one that fits there is no upload, or one that can only be
// removed.
func readNotes(notes []string, size int64) (u upload) {
	for _, line := range notes {
		what, rest, _ := strings.Cut(line, " ")
		number, text, _ := strings.Cut(rest, " ")
		n, err := strconv.ParseInt(number, 10, 64)
		switch {
		case err != nil || n < 1 || text == "":
		case what == "upload":
			u = upload{id: text, partSize: n, parts: map[int]string{}}
		case what == "part" && u.id != "" && n <= maxParts && (n-1)*u.partSize < size:
			u.parts[int(n)] = text
		}
	}
	return u
}

// fits reports whether the upload is one of this blob.
func (p *partWrite) fits() bool { return p.up.partSize == partSize(p.size) }

// AbandonBlob removes what a ResumeBlob that nobody is going to call again, or a
// StageBlob, left in the bucket, by its notes. What is not there any more is success.
func (s *Store) AbandonBlob(ctx context.Context, d manifest.Digest, notes []string) error {
	if st := readStaged(notes); st.key != "" {
		if err := s.removeStaged(ctx, st); err != nil {
			return fmt.Errorf("removing a staged upload: %w", err)
		}
		return nil
	}
	up := readNotes(notes, 0)
	if up.id == "" {
		return nil
	}
	if err := s.drop(ctx, blobKey(d), up.id); err != nil {
		return fmt.Errorf("removing the parts of %s: %w", d, err)
	}
	return nil
}

// arrived waits until n bytes from off on can be read, and reports whether they are
// what the part with this ETag was made of; "" is none.
func arrived(r io.ReaderAt, off, n int64, etag string) (same bool, err error) {
	want, err := hex.DecodeString(etag)
	if err != nil || len(want) != md5.Size {
		return false, landed(r, off, n)
	}
	h := md5.New()
	if err := readTo(h, r, off, n); err != nil {
		return false, err
	}
	return hex.EncodeToString(h.Sum(nil)) == strings.ToLower(etag), nil
}
