package registryd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// pendingDelay is how long after a change the file is synced, or emptied if
	// nothing is owed any more. A power loss within it forgets what was owed since;
	// with a healthy bucket most is done before, and costs no sync at all.
	pendingDelay = time.Second

	// pendingSlack is by how much the file may outgrow twice what it has to say
	// before it is written anew, in bytes: some 300 writes and as many ends.
	pendingSlack = 128 << 10

	// tendLimit bounds the wait for it; the syncs have no bound but the disk's.
	tendLimit = time.Minute

	// pendingTrouble is how often at most the log hears that the file cannot be
	// written: a full disk lasts.
	pendingTrouble = time.Minute
)

// A record is a line of the file, as JSON: something is owed to the bucket, with
// more tags than before perhaps; or is not owed any more; or a note of an upload of
// Digest, which the notes before it go with until they are void.
type record struct {
	write
	Done bool   `json:"done,omitempty"`
	Note string `json:"note,omitempty"`
	Void bool   `json:"void,omitempty"`
}

// pendingFile is what the bucket is owed, and how far it has got, for the next
// process: lines that are only added to, each in one write before anybody is told
// of what it says. A kill loses none of them, since the kernel has them. They are
// synced behind, and nobody waits for that: a power loss forgets the last second's,
// and the next pull of it here or by another host makes up for that. The nil file
// keeps nothing.
type pendingFile struct {
	path    string
	account func(int64) // is told by how many bytes of blocks the file has grown
	bg      *background
	log     *slog.Logger

	owner sync.Locker     // guards lines; the two below are called with it held
	all   func() []record // all that the file has to say
	empty func() bool     // whether that is nothing
	lines []byte          // to be added

	tending sync.Mutex // held over tend, and its syncs; taken before mu

	mu     sync.Mutex // orders what is added to the file, and is held over that, but over no sync; taken before owner. Guards the rest
	armed  bool       // tend is coming
	dirty  bool       // there is something that it has not seen
	size   int64      // bytes
	most   int64      // bytes, beyond which the file is written anew
	broken bool       // what was added may not be there
	since  []byte     // what was added while the file is being written anew; nil if it is not
	said   time.Time  // when the log was told of trouble
}

// add has r written with the next flush. The caller holds owner.
func (p *pendingFile) add(r record) {
	if p == nil {
		return
	}
	line, err := json.Marshal(r)
	if err != nil {
		return // strings and numbers always have a form
	}
	p.lines = append(append(p.lines, line...), '\n')
}

// flush writes what was added, by whomever, and returns when the kernel has it.
func (p *pendingFile) flush() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.owner.Lock()
	lines := p.lines
	p.lines = nil
	p.owner.Unlock()
	if len(lines) == 0 {
		return
	}
	p.append(lines)
	if p.dirty = true; !p.armed {
		p.arm()
	}
}

// arm has the file tended soon. The caller holds mu.
func (p *pendingFile) arm() {
	p.armed = p.bg.run(tendLimit, func(ctx context.Context) {
		select {
		case <-ctx.Done(): // a shutdown tends it by itself
			return
		case <-time.After(pendingDelay):
		}
		p.tend()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.armed = false; p.dirty {
			p.arm()
		}
	})
}

// tend makes the file durable, empties it if there is nothing to be kept, or writes
// it anew if it has become long, or what was to be added could not be.
func (p *pendingFile) tend() {
	if p == nil {
		return
	}
	p.tending.Lock()
	defer p.tending.Unlock()
	p.mu.Lock()
	p.dirty = false
	p.owner.Lock()
	lines, empty := p.lines, p.empty()
	p.lines = nil
	var anew []record
	if !empty && (p.broken || p.size > p.most) {
		anew = p.all()
	}
	p.owner.Unlock()
	var err error
	switch {
	case empty:
		err = p.truncate()
	case len(lines) > 0:
		p.append(lines)
	}
	if len(anew) > 0 {
		p.since = []byte{}
	}
	p.mu.Unlock()
	switch {
	case empty:
	case len(anew) > 0:
		if err = p.replace(anew); err == nil {
			err = p.sync()
		}
	default:
		err = p.sync()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note(err)
}

// note tells the log of trouble. The caller holds mu.
func (p *pendingFile) note(err error) {
	if err != nil && time.Since(p.said) >= pendingTrouble {
		p.said = time.Now()
		p.log.Warn("what the bucket is owed is not kept on disk", "err", err)
	}
}

// append adds to the file. It is opened each time: whoever removes it costs what was
// in it, and nothing that comes later. The caller holds mu.
func (p *pendingFile) append(b []byte) {
	if p.since != nil {
		p.since = append(p.since, b...)
	}
	f, err := os.OpenFile(p.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		var n int
		n, err = f.Write(b)
		p.grow(p.size + int64(n))
		err = errors.Join(err, f.Close())
	}
	p.broken = p.broken || err != nil
	p.note(err)
}

// truncate empties the file. The caller holds mu.
func (p *pendingFile) truncate() error {
	if p.size == 0 && !p.broken {
		return nil
	}
	if err := os.Truncate(p.path, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	p.grow(0)
	p.most, p.broken = pendingSlack, false
	return nil
}

// sync makes the file and its name durable.
func (p *pendingFile) sync() error {
	if p == nil {
		return nil
	}
	return errors.Join(syncPath(p.path), syncPath(filepath.Dir(p.path)))
}

// replace makes the file say list, and what is added meanwhile, durably, at once or
// not at all. What is added waits for the last step only, which needs no sync.
func (p *pendingFile) replace(list []record) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, r := range list {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	size := int64(b.Len())
	p.account(blocks(size))
	temp := p.path + ".new"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.Write(b.Bytes())
		err = errors.Join(err, f.Sync())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	since := p.since
	p.since = nil
	if f != nil {
		if err == nil {
			_, err = f.Write(since)
		}
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = os.Rename(temp, p.path)
	}
	p.account(-blocks(size))
	if err != nil {
		os.Remove(temp)
		return err
	}
	p.grow(size + int64(len(since)))
	p.most, p.broken = 2*size+pendingSlack, false
	return nil
}

// grow notes the file's size, and counts its blocks. The caller holds mu.
func (p *pendingFile) grow(size int64) {
	if delta := blocks(size) - blocks(p.size); delta != 0 {
		p.account(delta)
	}
	p.size = size
}

// blocks is what a file of size bytes takes.
func blocks(size int64) int64 {
	const block = 4096
	return (size + block - 1) / block * block
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
