package registryd

import "time"

const (
	// maxRefused bounds what waits for the right to write, beside what was owed
	// before: the blobs of some hundred images, half a MiB. The oldest goes first;
	// the cache evicts it first, too.
	maxRefused = 1 << 10

	// scoutEvery is how often it is looked whether this host may write by now. A
	// Store that knows is asked without a network; of another one this is an
	// attempt.
	scoutEvery = time.Minute
)

// refusal is a bucket that this host may only read. It is a normal case, where
// somebody else is the one who writes: what is pulled then costs a line in the file
// and no call. It may also be a mistake that is mended, or a quota that is raised:
// then a scout, one write of those that wait, succeeds, and the others follow.
type refusal struct {
	on    bool
	scout time.Time // when one of the writes may try
}

// scouting reports whether a write has to wait for the one that is trying.
func (r refusal) scouting(atWork int) bool { return r.on && atWork > 0 }

// A readOnlyStore is a Store that knows whether writes would be refused. ReadOnly
// answers from memory; that it changes is the Store's affair.
type readOnlyStore interface{ ReadOnly() bool }

func (w *writer) readOnly() bool {
	s, ok := w.store.(readOnlyStore)
	return ok && s.ReadOnly()
}

// A wishingStore is a Store that tries sooner whether it may be written if somebody
// wants to.
type wishingStore interface{ WantToWrite() }

// wantToWrite tells a Store that refuses to be written that somebody pushes.
func wantToWrite(s Store) {
	if w, ok := s.(wishingStore); ok {
		w.WantToWrite()
	}
}

// refused keeps a write that the bucket refused. The caller holds mu.
func (w *writer) refused(j *job) {
	w.refusal = refusal{on: true, scout: time.Now().Add(scoutEvery)}
	w.trouble, w.streak, w.paused = nil, 0, time.Time{} // it answers
	j.again = false
	w.queue = append(w.queue, j)
}

// rests returns until when nothing is to be started, if that is not over. The caller
// holds mu.
func (w *writer) rests(now time.Time) time.Time {
	if now.Before(w.paused) {
		return w.paused
	}
	if !now.Before(w.refusal.scout) && w.readOnly() {
		w.refusal = refusal{on: true, scout: now.Add(scoutEvery)}
	}
	return w.refusal.scout
}

// room reports whether one more write can be owed, for which the oldest may have to
// go where they wait for a right that may never come. The caller holds mu.
func (w *writer) room() bool {
	if w.refusal.on && len(w.jobs) >= maxRefused && len(w.queue) > 0 {
		oldest := w.queue[0]
		w.queue = append(w.queue[:0], w.queue[1:]...)
		w.dropped++
		w.leave(oldest)
	}
	return len(w.jobs) < maxPending
}
