package registryd

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"time"

	"hostlocal/manifest"
)

// maxNotes bounds the notes of all uploads together, some 150 bytes each in memory
// and in the file: they are those of 512 GiB in parts of 16 MiB. What is beyond is
// sent again after a restart.
const maxNotes = 32 << 10

// abandonAfter is how long what there is of an upload waits for somebody who goes on
// with it, when its fill broke off or its blob is gone: a client that tries again
// does so within minutes, and the parts cost money.
const abandonAfter = 10 * time.Minute

// A ResumingStore is a Store that goes on with the upload of a large blob where
// another process, or an attempt that failed, left it.
type ResumingStore interface {
	// ResumeBlob is BlobWriter.PutBlob. While a blob is sent in parts, note is
	// called, one call at a time, with lines to be kept, and with "" when those so
	// far are void; earlier are those that were kept of d. They need not be right,
	// nor must the bytes still be the same.
	ResumeBlob(ctx context.Context, d manifest.Digest, size int64, r io.ReaderAt, earlier []string, note func(string)) error
	// AbandonBlob removes what an upload left in the bucket.
	AbandonBlob(ctx context.Context, d manifest.Digest, notes []string) error
}

// uploads are the notes of uploads that are neither done nor removed.
type uploads struct {
	notes map[manifest.Digest][]string
	count int // of all notes

	staged map[manifest.Digest]bool // those of this process that are stages'
}

// set replaces the notes of d.
func (u *uploads) set(d manifest.Digest, notes []string) {
	u.count += len(notes) - len(u.notes[d])
	if u.notes[d] = notes; len(notes) == 0 {
		delete(u.notes, d)
		delete(u.staged, d)
	}
}

// put gives a blob to the bucket.
func (w *writer) put(ctx context.Context, d manifest.Digest, size int64, r io.ReaderAt) error {
	w.mu.Lock()
	earlier, full := w.uploads.notes[d], w.uploads.count >= maxNotes
	w.mu.Unlock()
	s, ok := w.store.(ResumingStore)
	if !ok || full && len(earlier) == 0 {
		return w.store.PutBlob(ctx, d, size, r)
	}
	return s.ResumeBlob(ctx, d, size, r, earlier, func(note string) { w.note(d, note) })
}

// note keeps a note, or forgets those of d. When it returns a kill does not undo
// that; nor does a power loss the first note: parts of which nobody knows would stay
// in the bucket. It is the upload that waits for that, and no pull.
func (w *writer) note(d manifest.Digest, note string) {
	w.mu.Lock()
	lines := w.uploads.notes[d]
	switch {
	case note == "" && len(lines) > 0:
		w.uploads.set(d, nil)
		w.file.add(record{write: write{Digest: d}, Void: true})
	case note != "" && (w.uploads.count < maxNotes || w.uploads.staged[d]): // a stage has four
		w.uploads.set(d, append(lines[:len(lines):len(lines)], note))
		w.file.add(record{write: write{Digest: d}, Note: note})
	}
	w.mu.Unlock()
	w.file.flush()
	if note != "" && len(lines) == 0 {
		_ = w.file.sync() // tend syncs too, and says so when it cannot
	}
}

// abandon has what is left of an upload of d removed after a while, if there is
// anything, and nobody owes the blob by then. The caller holds mu.
func (w *writer) abandon(d manifest.Digest) {
	if len(w.uploads.notes[d]) == 0 || w.owes(d) {
		return
	}
	j, ok := w.jobs[content{"", d}]
	if !ok {
		j = w.enter(write{Digest: d, abandon: true})
		w.queue = append(w.queue, j)
	}
	j.due = time.Now().Add(w.abandonAfter) // from the last attempt on
}

// owes reports whether the blob is owed to any repository. The caller holds mu.
func (w *writer) owes(d manifest.Digest) bool {
	for _, j := range w.jobs {
		if j.Digest == d && !j.abandon {
			return true
		}
	}
	return false
}

// removeUpload removes what nobody goes on with. A bucket that refuses to has a rule
// of its own for it, or somebody who pays; but rules are about unfinished uploads, so for
// a stage, which may have become an object, the next process tries once more.
func (w *writer) removeUpload(ctx context.Context, d manifest.Digest) error {
	w.mu.Lock()
	notes := w.uploads.notes[d]
	owed, staged := w.owes(d), w.uploads.staged[d]
	w.mu.Unlock()
	if owed {
		return nil // it goes on when its turn comes
	}
	s, ok := w.store.(ResumingStore)
	if ok && len(notes) > 0 {
		switch err := s.AbandonBlob(ctx, d, notes); {
		case errors.Is(err, fs.ErrPermission) && staged:
			return nil
		case err != nil && !errors.Is(err, fs.ErrPermission):
			return err
		}
	}
	w.note(d, "")
	return nil
}
