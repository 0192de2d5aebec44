package blobcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"sync"

	"hostlocal/manifest"
)

var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

func getBuffer() *[]byte  { return buffers.Get().(*[]byte) }
func putBuffer(b *[]byte) { buffers.Put(b) }

// fetch brings one claim. What it could not bring is planned again, by whatever
// source is left.
func (f *fill) fetch(ctx context.Context, cl *claim) {
	err := f.bring(ctx, cl)
	f.mu.Lock()
	f.claims = slices.DeleteFunc(f.claims, func(c *claim) bool { return c == cl })
	if err != nil && f.fatal == nil && ctx.Err() == nil {
		f.fatal = err
	}
	f.mu.Unlock()
	f.part.record(span{cl.logged, cl.pos})
	f.poke()
}

// bring opens a source for the claim and lands its bytes. The error is one that
// ends the fill: a body that breaks off is none as long as a source is left.
func (f *fill) bring(ctx context.Context, cl *claim) error {
	select {
	case f.c.bodies <- struct{}{}:
		defer func() { <-f.c.bodies }()
	case <-ctx.Done():
		return ctx.Err()
	}
	f.mu.Lock()
	r := request{off: cl.pos, n: cl.end - cl.pos, plain: cl.first && !f.want.Ranged}
	if cl.whole {
		r.n = -1
	}
	f.mu.Unlock()
	a, err := f.opener.open(ctx, r)
	if errors.Is(err, fs.ErrInvalid) && r.off > 0 {
		return f.beyond(cl, r.off, err)
	}
	if err != nil {
		return err
	}
	// A read is ended by closing the body: the source's own deadline may be later
	// than what ended the fill.
	stop := context.AfterFunc(ctx, func() { a.body.Close() })
	defer a.body.Close()
	defer stop()
	if ok, err := f.accept(cl, a); !ok || err != nil {
		return err
	}
	if cl.first {
		f.poke() // now it is known how the rest is best asked for
	}
	err = f.land(cl, a)
	switch {
	case err == nil, errors.Is(err, errStorage), errors.Is(err, manifest.ErrMismatch), ctx.Err() != nil:
		return err
	}
	out := f.opener.strike(a.by, cl.brought, err)
	switch {
	case f.single && out:
		return fmt.Errorf("%s, in the request for byte %d: %w", a.by.Name(), r.off, err)
	case f.opener.source() == nil:
		return fmt.Errorf("in the request for byte %d: %w", r.off, f.opener.verdict())
	}
	return nil
}

// beyond is for a source that says, by err, that the blob has no byte at off. If
// nobody knew how long the blob is, now it is known. Else somebody said that it is
// longer than it is, and what has landed may be that one's: kept, it would have
// every later fill ask for the same byte.
func (f *fill) beyond(cl *claim, off int64, err error) error {
	f.mu.Lock()
	unknown := f.size < 0
	f.mu.Unlock()
	if unknown {
		return f.atEOF(cl)
	}
	return fmt.Errorf("in the request for byte %d: %w: %w", off, errSize, err)
}

// accept fits an answer to the fill: its size, and where it begins. ok is false if
// the answer is of no use and the claim is to be planned again.
func (f *fill) accept(cl *claim, a answer) (ok bool, err error) {
	f.mu.Lock()
	if f.said && a.size >= 0 && a.size != f.size {
		if before := f.sizedBy; before != nil && before != a.by && a.size == f.want.Size {
			// The descriptor agrees with this one: what came before is not the blob.
			f.mu.Unlock()
			f.opener.blame(before)
			return false, fmt.Errorf("%s: %w", before.Name(), errSize)
		}
		f.mu.Unlock()
		f.opener.exclude(a.by, errSize)
		f.c.stats.fill(a.by.Name(), "mismatch")
		return false, f.opener.stuck()
	}
	if a.size < 0 && f.size < 0 && !a.all {
		// It takes ranges, and does not say what of: then all at once.
		f.opener.noRanges(a.by)
		f.mu.Unlock()
		return false, nil
	}
	learnt, err := f.adopt(a)
	if err == nil {
		if a.all && !cl.whole {
			cl.end, cl.whole = f.reach(cl), cl.pos == 0
		}
		ok = f.align(cl, a)
	}
	f.mu.Unlock()
	if err == nil && learnt {
		err = f.sized()
	}
	if err != nil || !ok {
		return false, err
	}
	f.hashOn() // an empty blob has no bytes that would
	f.mu.Lock()
	if f.size < 0 || f.size > whole {
		f.answer()
	}
	f.mu.Unlock()
	return true, nil
}

// adopt takes what an answer says of the blob. learnt says that its size is news.
// The caller holds mu.
func (f *fill) adopt(a answer) (learnt bool, err error) {
	if f.single && f.only == nil {
		f.only = a.by
	}
	if f.single && f.only != a.by {
		return false, fmt.Errorf("%s had to give way to %s, and after a mismatch a blob comes from one source", f.only.Name(), a.by.Name())
	}
	if a.size < 0 || f.said {
		return false, nil
	}
	learnt = a.size != f.size
	if err := f.resize(a.size); err != nil {
		return false, err
	}
	f.sizedBy = a.by
	return learnt, nil
}

// align has the claim begin where the answer does. It reports false for one of
// several claims whose source sends everything whatever it is asked for. The caller
// holds mu.
func (f *fill) align(cl *claim, a answer) bool {
	if a.from == cl.pos {
		return true
	}
	f.opener.noRanges(a.by)
	if len(f.claims) > 1 {
		return false
	}
	*cl = claim{end: f.size, brought: cl.brought, whole: true}
	if f.size < 0 {
		cl.end = math.MaxInt64
	}
	return true
}

// resize adopts the size that a source said over the one that a descriptor did:
// whoever wrote the descriptor may be wrong about a blob that others want too.
// The digest decides in the end. A size that is less than what has come already
// proves one of the sources wrong, and nobody knows which. The caller holds mu.
func (f *fill) resize(size int64) error {
	if n := len(f.landed); n > 0 && f.landed[n-1].end > size {
		return errSize
	}
	for _, cl := range f.claims {
		if cl.busy > max(size, cl.pos) {
			return errSize
		}
	}
	f.size, f.said = size, true
	for _, cl := range f.claims {
		cl.end = max(cl.pos, min(cl.end, size))
		if cl.whole {
			cl.end = size
		}
	}
	return nil
}

// land copies a body into the claim.
func (f *fill) land(cl *claim, a answer) error {
	buf := getBuffer()
	defer putBuffer(buf)
	for {
		f.mu.Lock()
		room := cl.end - cl.pos
		if room <= 0 && f.size >= 0 && f.landed.until(0) == f.size {
			f.said = true // if only by the descriptor: the digest decides
		}
		f.mu.Unlock()
		if room <= 0 {
			f.hashOn()
			return nil
		}
		n, err := a.body.Read((*buf)[:min(room, bufferSize)])
		if n > 0 {
			if err := f.write(cl, (*buf)[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return f.atEOF(cl)
		default:
			return err
		}
	}
}

// atEOF tells a body that is complete from one that is short.
func (f *fill) atEOF(cl *claim) error {
	f.mu.Lock()
	var err error
	if f.size < 0 {
		err = f.resize(cl.pos)
	}
	short := cl.pos < cl.end
	f.mu.Unlock()
	if err != nil {
		return err
	}
	f.hashOn()
	if short {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// write puts b at the claim's position, makes room for it first, and tells the
// readers. Bytes that have landed before are skipped: a source without ranges
// sends them again.
func (f *fill) write(cl *claim, b []byte) error {
	f.mu.Lock()
	b = b[:min(int64(len(b)), cl.end-cl.pos)]
	pos, end := cl.pos, cl.pos+int64(len(b))
	cl.busy = end
	gap := f.landed.gap(pos, end)
	f.mu.Unlock()
	for ; gap.len() > 0; gap = f.gapIn(gap.end, end) {
		if err := f.makeRoom(gap, cl); err != nil {
			return fmt.Errorf("%w: %w", errStorage, err)
		}
		if _, err := f.part.f.WriteAt(b[gap.off-pos:gap.end-pos], gap.off); err != nil {
			return fmt.Errorf("%w: writing byte %d: %w", errStorage, gap.off, err)
		}
		f.mu.Lock()
		f.landed.add(gap.off, gap.end)
		cl.brought += gap.len()
		f.tellSoon(gap.len())
		f.mu.Unlock()
	}
	f.mu.Lock()
	cl.pos = end
	prefix := f.landed.until(f.hashed) > f.hashed
	f.mu.Unlock()
	if end-cl.logged >= mapStep {
		f.part.record(span{cl.logged, end})
		cl.logged = end
	}
	if prefix {
		f.hashOn()
	}
	return nil
}

func (f *fill) gapIn(off, end int64) span {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.landed.gap(off, end)
}

func (f *fill) hashOn() {
	select {
	case f.grown <- struct{}{}:
	default:
	}
}

// unsaidShare is the part of the budget (one in unsaidShare) that a blob may take
// whose size nobody says. One that never ends would evict all others.
const unsaidShare = 4

// makeRoom takes room for s, and some ahead of it, from the ledger.
func (f *fill) makeRoom(s span, cl *claim) error {
	f.mu.Lock()
	step := int64(roomStep)
	if cl.brought == 0 {
		step = firstRoom
	}
	need := f.roomed.gap(s.off, min(max(s.off+step, s.end), cl.end))
	n := roundUp(need.len())
	if f.taken == 0 {
		n += slack(f.size)
	}
	promised := min(n, f.promised)
	endless := f.size < 0 && s.end > f.c.opt.Budget/unsaidShare
	f.mu.Unlock()
	if need.off >= s.end {
		return nil
	}
	if endless {
		return fmt.Errorf("%w: its size is not known, and it has had a part in %d of the budget", ErrNoRoom, unsaidShare)
	}
	if err := f.c.ledger.take(n, promised); err != nil {
		return err
	}
	f.mu.Lock()
	f.taken += n
	f.promised -= promised
	f.roomed.add(need.off, need.end)
	f.mu.Unlock()
	if need.len() >= near {
		return f.part.allocate(need)
	}
	return nil
}
