package registryd

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"hostlocal/manifest"
)

const (
	// maxPendingFile bounds what is read of the file, in bytes: more than what
	// maxPending writes with all their tags and maxNotes notes take.
	maxPendingFile = 32 << 20

	// maxPendingLine bounds a line, in bytes: the longest name, a digest, and
	// maxTagsOwed tags, or the longest note.
	maxPendingLine = 16 << 10
)

// load returns what the file says: what is owed, in the order of its coming, and
// the notes of uploads. Lines that are no records are left out, a file that is not
// there is empty.
func (p *pendingFile) load() (owed []write, notes map[manifest.Digest][]string, err error) {
	p.most = pendingSlack
	f, err := os.Open(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	// Whoever counts what lies in the folder counts what has not changed since the
	// start: from here on the file is counted by us.
	now := time.Now()
	_ = os.Chtimes(p.path, now, now)
	h := history{at: map[content]int{}, notes: map[manifest.Digest][]string{}}
	lines := bufio.NewReaderSize(io.LimitReader(f, maxPendingFile), maxPendingLine)
	var size int64
	for long := false; ; {
		line, err := lines.ReadSlice('\n')
		size += int64(len(line))
		var r record
		if err == nil && !long && json.Unmarshal(line, &r) == nil {
			h.add(r)
		}
		switch {
		case err == nil || errors.Is(err, bufio.ErrBufferFull):
			long = err != nil
			continue
		case !errors.Is(err, io.EOF):
			return nil, nil, err
		case len(line) > 0 || long:
			p.lines = []byte("\n") // it was torn: what comes next is another line
		}
		p.grow(size)
		return h.owed(), h.notes, nil
	}
}

// history is what records amount to.
type history struct {
	writes []write
	at     map[content]int // in writes, of what is owed
	notes  map[manifest.Digest][]string
	count  int // of notes
}

func (h *history) add(r record) {
	i, known := h.at[r.key()]
	switch {
	case r.Digest.IsZero():
	case r.Void:
		h.count -= len(h.notes[r.Digest])
		delete(h.notes, r.Digest)
	case r.Note != "" && h.count >= maxNotes:
	case r.Note != "":
		h.count++
		h.notes[r.Digest] = append(h.notes[r.Digest], r.Note)
	case r.Repo == "":
	case r.Done:
		delete(h.at, r.key())
	case known:
		for _, tag := range r.Tags {
			h.writes[i].addTag(tag)
		}
	default:
		h.at[r.key()] = len(h.writes)
		h.writes = append(h.writes, r.write)
	}
}

// owed is what is not done, the latest maxPending of it.
func (h *history) owed() (list []write) {
	for i, w := range h.writes {
		if at, ok := h.at[w.key()]; ok && at == i {
			list = append(list, w)
		}
	}
	return list[max(0, len(list)-maxPending):]
}
