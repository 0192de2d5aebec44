package notify

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

const (
	// tendDelay is how long after a change the file is synced, or emptied if nothing
	// waits any more. A power loss within it forgets the events since; where the
	// endpoints are well they are delivered before, and cost no sync at all.
	tendDelay = time.Second

	// journalSlack is by how much the file may outgrow twice what it has to say before
	// it is written anew, in bytes: some thousand deliveries.
	journalSlack = 128 << 10

	// troubleTold is how often at most the log hears that the file cannot be written:
	// a full disk lasts.
	troubleTold = time.Minute
)

// A journal is the queue for the next process: a file of lines that are only added
// to. One goroutine writes it, so that nobody who publishes is at the mercy of the
// disk; what takes long, a sync or a file written anew, runs beside that, so that
// lines go on to be added meanwhile.
//
// A kill loses no line, since the kernel has them; a power loss those of the last
// second. A file that cannot be written costs what it would have been for, and
// nothing else: the events are delivered from memory.
type journal struct {
	path    string
	queue   *queue
	account func(int64)
	log     *slog.Logger

	stall atomic.Bool // the disk took too long: nobody waits for it

	// The rest is the goroutine's.
	slow   chan error // what runs beside has ended; nil: nothing does
	temp   *os.File   // the file that is being written anew; nil: none is
	since  []byte     // what was added meanwhile, at most maxLines
	late   bool       // there was more: it is not what is to be kept any more
	anew   int64      // its size in bytes, without that
	size   int64      // of the file, in bytes
	most   int64      // bytes, beyond which it is written anew
	dirty  bool       // something was added that is not synced
	broken bool       // what was added may not be there
	said   time.Time  // when the log was told of trouble
}

// openJournal fills the queue from the file.
func openJournal(path string, q *queue, account func(int64), log *slog.Logger) (*journal, error) {
	if account == nil {
		account = func(int64) {}
	}
	j := &journal{path: path, queue: q, account: account, log: log, most: journalSlack}
	q.kept = true
	os.Remove(j.tempPath()) // of a process that was killed; the next one is written over what is there
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Whoever counts what lies in the folder counts what has not changed since the
	// start: from here on the file is counted by us.
	now := time.Now()
	_ = os.Chtimes(path, now, now)
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	j.grow(fi.Size())
	torn, err := q.load(f)
	if err != nil {
		return nil, err
	}
	if torn {
		q.lines = append([]byte("\n"), q.lines...) // what comes next is another line
	}
	j.dirty = true
	poke(q.kick) // it may have nothing left to say
	return j, nil
}

func (j *journal) tempPath() string { return j.path + ".new" }

// await returns when written is closed, or is not going to be soon.
func (j *journal) await(written <-chan struct{}) {
	if written == nil || j.stall.Load() {
		return
	}
	t := time.NewTimer(publishLimit)
	defer t.Stop()
	select {
	case <-written:
	case <-t.C:
		j.stall.Store(true)
	}
}

// run writes what is noted until stop is closed.
func (j *journal) run(stop <-chan struct{}) {
	var tend <-chan time.Time // nil: the file needs nothing
	for {
		if tend == nil && (j.dirty || j.broken || j.slow != nil) {
			tend = time.After(tendDelay)
		}
		select {
		case <-j.queue.kick:
			j.write()
		case <-tend:
			tend = nil
			j.tend()
		case err := <-j.slow:
			j.ended(err)
		case <-stop:
			j.finish()
			return
		}
	}
}

// write adds what was noted.
func (j *journal) write() {
	lines, written, lost := j.queue.take()
	if lost {
		j.broken, j.late = true, true // what is being written anew may lack them too
	}
	if len(lines) > 0 {
		j.append(lines)
	}
	if written != nil {
		close(written)
	}
	j.stall.Store(false)
}

// append adds to the file. It is opened each time: whoever removes it costs what was
// in it, and nothing that comes later.
func (j *journal) append(b []byte) {
	if j.temp != nil {
		if j.since = append(j.since, b...); len(j.since) > maxLines {
			j.since, j.late = nil, true
		}
	}
	f, err := os.OpenFile(j.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		var n int
		n, err = f.Write(b)
		j.grow(j.size + int64(n))
		err = errors.Join(err, f.Close())
	}
	j.dirty = true
	j.broken = j.broken || err != nil
	j.note(err)
}

// tend makes the file durable, empties it if there is nothing to be kept, or writes
// it anew if it has become long, or what was to be added could not be.
func (j *journal) tend() {
	switch {
	case j.slow != nil:
		// It is at it.
	case j.queue.empty():
		j.note(j.truncate())
	case j.broken || j.size > j.most:
		j.rewrite()
	case j.dirty:
		j.dirty = false
		path := j.path
		j.beside(func() error { return syncFile(path) })
	}
}

// beside runs f while lines are added. It must touch nothing of j.
func (j *journal) beside(f func() error) {
	done := make(chan error, 1)
	j.slow = done
	go func() { done <- f() }() // it is waited for: by run, or by finish
}

// ended takes what ran beside.
func (j *journal) ended(err error) {
	j.slow = nil
	if j.temp != nil {
		err = j.replace(err)
	}
	j.note(err)
}

// rewrite begins to make the file say what is not delivered, and nothing else.
func (j *journal) rewrite() {
	f, err := os.OpenFile(j.tempPath(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		j.note(err)
		return
	}
	lines := j.queue.all()
	j.temp, j.since, j.late, j.anew = f, nil, false, int64(len(lines))
	j.account(blocks(j.anew))
	j.beside(func() error {
		_, err := f.Write(lines)
		return errors.Join(err, f.Sync())
	})
}

// replace puts the file that was written anew in the place of the other, with what
// was added meanwhile: at once or, if err or something here went wrong, not at all.
func (j *journal) replace(err error) error {
	f, since, size := j.temp, j.since, j.anew
	j.temp, j.since = nil, nil
	if err == nil && j.late {
		err = errors.New("the disk is slower than the events come")
	}
	if err == nil {
		_, err = f.Write(since)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(j.tempPath(), j.path)
	}
	j.account(-blocks(size))
	if err != nil {
		os.Remove(j.tempPath())
		return err
	}
	j.grow(size + int64(len(since)))
	j.most = 2*size + journalSlack
	j.broken, j.dirty = false, true
	return nil
}

// truncate empties the file.
func (j *journal) truncate() error {
	if err := os.Truncate(j.path, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	j.grow(0)
	j.most = journalSlack
	j.broken, j.dirty = false, false
	return nil
}

// finish writes what is noted, durably.
func (j *journal) finish() {
	if j.slow != nil {
		j.ended(<-j.slow)
	}
	j.write()
	for range 2 { // written anew, it is to be synced
		j.tend()
		if j.slow != nil {
			j.ended(<-j.slow)
		}
	}
}

// note tells the log of trouble.
func (j *journal) note(err error) {
	if err != nil && time.Since(j.said) >= troubleTold {
		j.said = time.Now()
		j.log.Warn("events for webhooks are not kept on disk", "err", err)
	}
}

// grow notes the file's size, and counts its blocks.
func (j *journal) grow(size int64) {
	if delta := blocks(size) - blocks(j.size); delta != 0 {
		j.account(delta)
	}
	j.size = size
}

// blocks is what a file of size bytes takes.
func blocks(size int64) int64 {
	const block = 4096
	return (size + block - 1) / block * block
}

// syncFile makes a file and its name durable. One that is not there any more was
// removed by somebody, who is not in the wrong.
func syncFile(path string) error {
	for _, p := range []string{path, filepath.Dir(path)} {
		f, err := os.Open(p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}
