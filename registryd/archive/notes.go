package archive

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hostlocal/manifest"
)

const (
	// maxNotesFile bounds the file, in bytes: the notes of uploads of a TiB.
	maxNotesFile = 16 << 20
	// notesKept is for how long an upload waits for somebody who goes on with it: over
	// a weekend. Its parts cost money where the bucket is rented.
	notesKept = 7 * 24 * time.Hour
)

// ErrNotesBusy says that another import of this host has the notes.
var ErrNotesBusy = errors.New("another import has the notes")

// Notes keep how far the uploads of large blobs have got, over the end of the process,
// kill included: lines that are only added to. They are advice: without them a blob is
// sent from its beginning. The nil Notes keep nothing.
type Notes struct {
	dir *os.File // locked

	mu     sync.Mutex // guards the rest; held while a line is written, since their order counts
	file   *os.File
	byBlob map[manifest.Digest]*noted
}

type noted struct {
	lines []string
	at    time.Time // of the last one
}

// note is a line of the file, as JSON.
type note struct {
	Digest manifest.Digest `json:"digest"`
	Note   string          `json:"note"` // "": those before are void
	At     time.Time       `json:"at"`
}

// OpenNotes opens the notes in a folder, which it makes.
func OpenNotes(dir string) (*Notes, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	n := &Notes{dir: d, byBlob: map[manifest.Digest]*noted{}}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		d.Close()
		return nil, fmt.Errorf("%w: %w", ErrNotesBusy, err)
	}
	if err := n.load(filepath.Join(dir, "uploads")); err != nil {
		d.Close()
		return nil, err
	}
	return n, nil
}

// load reads what is there, and writes what still counts anew.
func (n *Notes) load(path string) error {
	if f, err := os.Open(path); err == nil {
		for lines := bufio.NewScanner(io.LimitReader(f, maxNotesFile)); lines.Scan(); {
			var l note
			if json.Unmarshal(lines.Bytes(), &l) == nil && !l.Digest.IsZero() {
				n.take(l)
			}
		}
		f.Close()
	}
	var text bytes.Buffer
	for d, all := range n.byBlob {
		for _, line := range all.lines {
			if err := json.NewEncoder(&text).Encode(note{d, line, all.at}); err != nil {
				return err
			}
		}
	}
	if err := os.WriteFile(path+".new", text.Bytes(), 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	n.file = f
	return err
}

// take remembers a line. The caller holds mu.
func (n *Notes) take(l note) {
	if l.Note == "" {
		delete(n.byBlob, l.Digest)
		return
	}
	all := n.byBlob[l.Digest]
	if all == nil {
		all = &noted{}
		n.byBlob[l.Digest] = all
	}
	all.lines, all.at = append(all.lines, l.Note), l.At
}

// of returns the notes of a blob's upload.
func (n *Notes) of(d manifest.Digest) []string {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if all := n.byBlob[d]; all != nil {
		return all.lines[:len(all.lines):len(all.lines)]
	}
	return nil
}

// keeper returns what a store tells its notes to, or nil where none are kept: it then
// leaves nothing behind that nobody could go on with.
func (n *Notes) keeper(d manifest.Digest) func(string) {
	if n == nil {
		return nil
	}
	return func(line string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		l := note{d, line, time.Now()}
		text, err := json.Marshal(l)
		if err == nil {
			_, err = n.file.Write(append(text, '\n'))
		}
		if err == nil || line == "" { // what the file does not have must not be relied on
			n.take(l)
		}
	}
}

// Tidy removes what old uploads left in the store, which nobody went on with. What
// cannot be removed now is left for the next time.
func (n *Notes) Tidy(ctx context.Context, s BlobStore) {
	if n == nil {
		return
	}
	n.mu.Lock()
	old := map[manifest.Digest][]string{}
	for d, all := range n.byBlob {
		if time.Since(all.at) > notesKept {
			old[d] = all.lines
		}
	}
	n.mu.Unlock()
	for d, lines := range old {
		if s.AbandonBlob(ctx, d, lines) == nil {
			n.keeper(d)("")
		}
	}
}

// Close gives the notes to the next import.
func (n *Notes) Close() error {
	if n == nil {
		return nil
	}
	return errors.Join(n.file.Close(), n.dir.Close())
}
