package registryd

import (
	"context"
	"errors"
	"time"

	"hostlocal/manifest"
)

// stage sends what is to become a blob, by send, and notes what that leaves in the
// bucket under key. All of it is removed behind it, by the next process if need be.
func (w *writer) stage(ctx context.Context, key manifest.Digest, send func(context.Context, func(string)) error) error {
	ctx, t, err := w.takeTurn(ctx, key, true)
	if err != nil {
		return err
	}
	defer w.endStage(key, t)
	w.mu.Lock()
	left, full := len(w.uploads.notes[key]) > 0, w.uploads.count >= maxNotes
	w.mu.Unlock()
	switch {
	case full:
		return errors.New("there are too many notes of uploads")
	case left: // by an earlier one of the same upload
		if err := w.removeUpload(ctx, key); err != nil {
			return err
		}
	}
	w.mu.Lock()
	w.uploads.staged[key] = true
	w.mu.Unlock()
	return send(ctx, func(note string) { w.note(key, note) })
}

// endStage is endTurn for what nobody goes on with.
func (w *writer) endStage(key manifest.Digest, t *turn) {
	w.mu.Lock()
	w.freeTurn(key, t)
	w.abandon(key)
	if len(w.uploads.notes[key]) == 0 {
		delete(w.uploads.staged, key) // it did not come to a note
	}
	if j := w.jobs[content{"", key}]; j != nil {
		j.due = time.Time{}
	}
	w.dispatch()
	w.mu.Unlock()
	t.yield(nil)
	w.file.flush()
}

// settle has a stage become the blob d of size bytes, and waits for it.
func (w *writer) settle(ctx context.Context, st *stage, d manifest.Digest, size int64) error {
	ctx, t, err := w.takeTurn(ctx, d, false)
	if err != nil {
		return err
	}
	defer w.endTurn(d, t)
	if err := st.decide(d, size); err != nil {
		return err
	}
	select {
	case <-st.over:
	case <-ctx.Done():
		return ctx.Err() // it goes on: the client asks again
	}
	if st.err == nil {
		w.answered()
	}
	return st.err
}
