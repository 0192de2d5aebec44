package registryd

import (
	"context"
	"errors"
	"io"

	"hostlocal/manifest"
)

// A turn is the right to send a blob to the bucket. There is one at a time a digest:
// two would send it twice, and mix up what they note.
//
// Whoever sends while the bytes arrive goes at the pace of a client or of an upstream,
// which must not hold up others. So the one who has all of them is given way to: the
// parts that were sent stay, and whoever is slower finds the blob there in the end.
type turn struct {
	arriving bool // a push's bytes are still to come
	filling  bool // a write-back follows a fill: it gives way to a push, not to its like
	yield    context.CancelCauseFunc
	over     chan struct{} // closed at its end
}

func newTurn() *turn {
	return &turn{yield: func(error) {}, over: make(chan struct{})}
}

var (
	// errYielded ends a turn for somebody who has all of the bytes.
	errYielded = errors.New("another one who has all of the blob sends it")
	// errTaken says that there is no turn for bytes that are still to come.
	errTaken = errors.New("another one is sending the blob")
)

// push gives the bucket a blob that was pushed, as r gives it for as long as the turn
// lasts. arriving says that it waits for bytes that are still to come. What it leaves
// in the bucket when it fails is gone on with by the next push of the blob, or removed
// after abandonAfter, by the next process if need be.
func (w *writer) push(ctx context.Context, d manifest.Digest, size int64, r func(context.Context) io.ReaderAt, arriving bool) error {
	ctx, t, err := w.takeTurn(ctx, d, arriving)
	if err != nil {
		return err
	}
	defer w.endTurn(d, t)
	err = w.put(ctx, d, size, r(ctx))
	switch {
	case err == nil:
		w.answered()
	case errors.Is(context.Cause(ctx), errYielded):
		return errYielded
	}
	return err
}

// takeTurn waits for the turn of a blob. With bytes that are still to come it does not
// wait.
func (w *writer) takeTurn(ctx context.Context, d manifest.Digest, arriving bool) (context.Context, *turn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.turns[d] != nil {
		if arriving {
			return nil, nil, errTaken
		}
		if err := w.awaitTurn(ctx, d, w.turns[d]); err != nil {
			w.dispatch()
			return nil, nil, err
		}
	}
	t := newTurn()
	t.arriving = arriving
	ctx, t.yield = context.WithCancelCause(ctx)
	w.turns[d] = t
	return ctx, t, nil
}

// awaitTurn waits for the end of other, which gives way if it has to wait for bytes. No
// write-back begins before whoever waits here. The caller holds mu, but not meanwhile.
func (w *writer) awaitTurn(ctx context.Context, d manifest.Digest, other *turn) error {
	w.pushers[d]++
	w.mu.Unlock()
	if other.arriving || other.filling {
		other.yield(errYielded)
	}
	select {
	case <-other.over:
	case <-ctx.Done():
	}
	w.mu.Lock()
	if w.pushers[d]--; w.pushers[d] == 0 {
		delete(w.pushers, d)
	}
	return ctx.Err()
}

// endTurn has those go on who wait for it.
func (w *writer) endTurn(d manifest.Digest, t *turn) {
	w.mu.Lock()
	w.freeTurn(d, t)
	w.abandon(d)
	w.dispatch()
	w.mu.Unlock()
	t.yield(nil)
	w.file.flush()
}

// freeTurn is the part of endTurn under mu.
func (w *writer) freeTurn(d manifest.Digest, t *turn) {
	delete(w.turns, d)
	close(t.over)
}
