package notify

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
)

const (
	// maxJournal bounds what is read of the file, in bytes: more than what twice a
	// full queue and the slack take.
	maxJournal = 2*(maxBytes+maxPullBytes) + 8<<20

	// maxLine bounds a line, in bytes: an event with maxReferences and the names of
	// MaxEndpoints.
	maxLine = 128 << 10
)

// A record is a line of the file, as JSON: an event and whom it is for; or an
// endpoint that is through with it; or, with neither, that nobody is given it any
// more.
type record struct {
	Seq   int64           `json:"seq"`
	For   []string        `json:"for,omitempty"`
	Event json.RawMessage `json:"event,omitempty"`
	By    string          `json:"by,omitempty"`
}

// append adds the record's line.
func (r record) append(lines []byte) []byte {
	b, err := json.Marshal(r)
	if err != nil {
		return lines // an event that was marshalled has a form
	}
	return append(append(lines, b...), '\n')
}

// load fills the queue, which is new, with what a file says. Lines that are no
// records are left out: one may have been torn by a kill, and torn says that the
// last one was.
func (q *queue) load(r io.Reader) (torn bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	known := map[int64]*entry{}
	lines := bufio.NewReaderSize(io.LimitReader(r, maxJournal), maxLine)
	for long := false; ; {
		line, err := lines.ReadSlice('\n')
		if err == nil && !long {
			q.replay(line, known)
		}
		switch {
		case err == nil || errors.Is(err, bufio.ErrBufferFull):
			long = err != nil
			continue
		case !errors.Is(err, io.EOF):
			return false, err
		}
		for i, c := range q.counts {
			if c.waiting > 0 {
				q.wakes[i] <- struct{}{}
			}
		}
		return len(line) > 0 || long, nil
	}
}

// replay does again what a line says was done. The caller holds mu.
func (q *queue) replay(line []byte, known map[int64]*entry) {
	var r record
	if json.Unmarshal(line, &r) != nil || r.Seq <= 0 || r.Seq > maxSeq {
		return
	}
	q.seq = max(q.seq, r.Seq)
	x := known[r.Seq]
	switch {
	case r.Event != nil && x == nil:
		var e Event
		if json.Unmarshal(r.Event, &e) != nil || e.ID == "" {
			return
		}
		// As it was, whatever the line has beside it.
		body, err := json.Marshal(e)
		if err != nil {
			return
		}
		x = &entry{seq: r.Seq, pull: e.Action == Pull, left: q.maskOf(r.For), body: body}
		known[r.Seq] = x
		if x.left != 0 {
			q.enter(x)
			q.trim()
		}
	case x == nil:
		// The rest of one that went long ago.
	case r.Event == nil && r.By == "":
		q.settle(x, x.left)
	case r.Event == nil:
		q.settle(x, q.maskOf([]string{r.By}))
	}
}

// maxSeq is where a damaged number would leave no room for the next ones.
const maxSeq = 1 << 60

// maskOf returns the set of the names that are endpoints.
func (q *queue) maskOf(names []string) (m mask) {
	for i, name := range q.names {
		for _, n := range names {
			if n == name {
				m |= bitOf(i)
			}
		}
	}
	return m
}
