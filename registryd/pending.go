package registryd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// pendingDelay gathers what changes before the file is written again. A kill
	// within it loses writes that the next pull by a host without them makes up
	// for; with a healthy bucket most are done before they would be written down.
	pendingDelay = time.Second

	// maxPendingFile bounds what is read of the file, in bytes: maxPending lines
	// of the longest name, a digest and a few tags.
	maxPendingFile = 4 << 20
)

// pendingFile keeps the write-backs that are not done, a line of JSON each. It is
// written whole and renamed into place. The nil file keeps nothing.
type pendingFile struct {
	path     string
	snapshot func() []write
	bg       *background
	log      *slog.Logger

	mu    sync.Mutex // guards what follows
	armed bool       // a save is coming
	kept  bool       // there is something in the file

	saving sync.Mutex // orders saves; held over their I/O
}

// load returns what the file says. Lines that are no writes are left out, a file
// that is not there is empty.
func (p *pendingFile) load() ([]write, error) {
	if p == nil {
		return nil, nil
	}
	f, err := os.Open(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []write
	lines := bufio.NewScanner(io.LimitReader(f, maxPendingFile))
	lines.Buffer(nil, 64<<10)
	for lines.Scan() && len(list) < maxPending {
		var w write
		if json.Unmarshal(lines.Bytes(), &w) == nil && w.Repo != "" && !w.Digest.IsZero() {
			list = append(list, w)
		}
	}
	p.kept = len(list) > 0
	return list, lines.Err()
}

// changed has the file written soon.
func (p *pendingFile) changed() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.armed {
		return
	}
	p.armed = p.bg.run(time.Minute, func(ctx context.Context) {
		select {
		case <-ctx.Done(): // a shutdown saves by itself
			return
		case <-time.After(pendingDelay):
		}
		p.mu.Lock()
		p.armed = false
		p.mu.Unlock()
		p.save()
	})
}

// save writes the file, unless nothing is to be kept and nothing is in it.
func (p *pendingFile) save() {
	if p == nil {
		return
	}
	p.saving.Lock()
	defer p.saving.Unlock()
	list := p.snapshot()
	if len(list) == 0 && !p.kept {
		return
	}
	if err := p.replace(list); err != nil {
		p.log.Warn("pending write-backs not kept on disk", "err", err)
		return
	}
	p.kept = len(list) > 0
}

// replace makes the file say list, at once or not at all.
func (p *pendingFile) replace(list []write) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, w := range list {
		if err := enc.Encode(w); err != nil {
			return err
		}
	}
	temp := p.path + ".new"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(temp, p.path)
	}
	if err != nil {
		os.Remove(temp)
		return err
	}
	d, err := os.Open(filepath.Dir(p.path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
